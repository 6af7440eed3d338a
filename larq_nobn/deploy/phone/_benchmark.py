"""Times files in LCE's interpreter, side by side."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ..._checks import check_bounds, check_path
from .._errors import ConversionError
from .._shown import Shown
from ..inspection import Audit, audit
from ..lite import check_inputs, compute_engine, quiet, with_room

_MS = 1e3
_RESAMPLES = 1000
_OPTIMISED = ("aarch64", "arm64")


@dataclass(frozen=True)
class Timing:
    """The times of one file.

    Attributes:
        path: The file.
        size_bytes: Its size.
        lce_bconv2d: Its binary convolutions.
        float_ops: How many operations it leaves in float, as `audit` counts them.
        threads: Threads of the interpreter; None where a log does not say.
        runs: Timed runs.
        ms: The typical run, in milliseconds.
        typical: What `ms` is: `"median"`, or `"mean"` where a log has no median.
        low_ms: Lower end of the spread.
        high_ms: Upper end of the spread.
        spread: What lies between the ends: `"quartiles"`, `"5 to 95 %"` or `"range"`.
        ratio: `ms` over that of the first file.
        ratio_low: Lower end of the 95 % interval of `ratio`; None for logs.
        ratio_high: Upper end of it.
        operations: Where a log has them, the time of each kind of operation,
            `{"op", "count", "ms", "share"}`, the slowest first.
    """

    path: str
    size_bytes: int
    lce_bconv2d: int
    float_ops: int
    threads: int | None
    runs: int
    ms: float
    typical: str
    low_ms: float
    high_ms: float
    spread: str
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    operations: list[dict[str, Any]]


@dataclass(frozen=True)
class Benchmark(Shown):
    """The times of one file or of several side by side.

    Attributes:
        source: What ran the files.
        note: What these times stand for, and what they do not.
        timings: One `Timing` for each file; ratios are to the first.
    """

    source: str
    note: str
    timings: list[Timing]

    def table(self) -> Table:
        """Returns the times as a `rich` table, one column for each file."""
        table = Table(
            title=f"Time of one run, {self.source}",
            title_justify="left",
            caption=self.note,
            caption_justify="left",
        )
        table.add_column()
        for timing in self.timings:
            table.add_column(timing.path, justify="right", overflow="fold")
        for label, text in _ROWS.items():
            table.add_row(label, *(text(timing) for timing in self.timings))
        times = [{op["op"]: op for op in t.operations} for t in self.timings]
        for name in dict.fromkeys(name for ops in times for name in ops):
            table.add_row(name, *(_operation(ops.get(name)) for ops in times))
        return table


def _ratio(timing: Timing) -> str:
    if timing.ratio_low is None or timing.ratio_low == timing.ratio_high:
        return f"{timing.ratio:.3f}"
    return f"{timing.ratio:.3f} ({timing.ratio_low:.3f} to {timing.ratio_high:.3f})"


_ROWS: dict[str, Callable[[Timing], str]] = {
    "size": lambda t: f"{t.size_bytes / 1e3:,.1f} kB",
    "binary convolutions": lambda t: str(t.lce_bconv2d),
    "float operations": lambda t: str(t.float_ops),
    "threads": lambda t: "not logged" if t.threads is None else str(t.threads),
    "timed runs": lambda t: str(t.runs),
    "typical run": lambda t: f"{t.ms:,.3f} ms, {t.typical}",
    "spread": lambda t: f"{t.low_ms:,.3f} to {t.high_ms:,.3f} ms, {t.spread}",
    "ratio to first (95 %)": _ratio,
}


def _operation(op: dict[str, Any] | None) -> str:
    if op is None:
        return ""
    return f"{op['count']} in {op['ms']:,.3f} ms, {op['share']:.1%}"


def benchmark(
    path: str | os.PathLike,
    against: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 1,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
) -> Benchmark:
    """Times `.tflite` files in LCE's interpreter, side by side.

    The files take turns, run by run, in an order that is shuffled again in every round:
    what slows the computer down for a while hits them all alike. A ratio is that of
    two medians over all rounds, and its interval the middle 95 % of what rounds drawn
    again from those measured would give.

    On other processors than 64-bit ARM the interpreter runs portable kernels. Such
    times are no guide to a phone; `larq_nobn.deploy.phone_commands` gives the commands
    that measure there.

    Arguments:
        path: The file to which the others are compared.
        against: Another file, or a list of them.
        runs: Timed runs of each file, at least 1.
        warmup: Runs of each that are not counted, at least 0.
        threads: Threads of the interpreter, at least 1.
        seed: Of the random inputs, and of the order.
        progress: Called after every run of a file; there are `runs + warmup` of each.

    Returns:
        A `Benchmark`.

    Raises:
        ConversionError: If a file is missing, is no intact TFLite file or cannot be
            run, or Larq Compute Engine is not installed.
        ValueError: If a number is out of its range.

    Example:
        ```python
        import larq_nobn as nobn

        for normalization in ("nobn", "batch_norm"):
            model = nobn.models.ReActNet18((32, 32, 3), 10, normalization, width=16)
            nobn.convert(model, f"{normalization}.tflite")
        result = nobn.benchmark("nobn.tflite", against="batch_norm.tflite", runs=20)
        print(result)
        ```
    """
    check_counts(runs, warmup, threads)
    check_bounds("seed", seed)
    files = as_paths(path, against)
    found = [audit(file) for file in files]
    runners = [_runner(file, threads, seed) for file in files]
    random = np.random.default_rng(seed)
    seconds = _alternate(runners, warmup, runs, random, progress)
    return Benchmark(
        source=f"LCE's interpreter on this computer ({platform.machine()})",
        note=_note(platform.machine()),
        timings=_timings(found, seconds, threads, random),
    )


def check_counts(runs: int, warmup: int, threads: int) -> None:
    """Checks what is counted, here and on a phone."""
    for name, value in (("runs", runs), ("warmup", warmup), ("threads", threads)):
        check_bounds(name, value)


def as_paths(
    path: str | os.PathLike,
    against: str | os.PathLike | Sequence[str | os.PathLike] | None,
) -> list[str]:
    """Returns the names of all files, the one to compare with first."""
    if against is None:
        against = ()
    others: Sequence[Any] = against if isinstance(against, list | tuple) else [against]
    return [
        check_path("path", path),
        *(check_path("against", other) for other in others),
    ]


def _runner(file: str, threads: int, seed: int) -> Callable[[], object]:
    """Returns a function that runs a file once, always on the same random numbers."""
    content, engine = Path(file).read_bytes(), compute_engine()
    try:
        with quiet():
            # Tensors that nothing uses take no time.
            roomy = with_room(content)
            interpreter = engine.testing.Interpreter(roomy, num_threads=threads)
    except Exception as error:  # the wrapper raises RuntimeError and others
        raise ConversionError(
            f"Larq Compute Engine's interpreter cannot run {file!r}. Convert it again."
        ) from error
    check_inputs(interpreter.input_shapes)
    random = np.random.default_rng(seed)
    shapes = zip(interpreter.input_shapes, interpreter.input_types, strict=True)
    inputs = [_random_input(random, shape, np.dtype(kind)) for shape, kind in shapes]
    # The inner one takes whole inputs and adds no Python to the time of a run.
    return lambda: interpreter.interpreter.predict(inputs)


def _random_input(
    random: np.random.Generator, shape: Sequence[int], kind: np.dtype
) -> np.ndarray:
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return random.integers(limits.min, limits.max, shape, kind, endpoint=True)
    return random.normal(size=shape).astype(kind)


def _alternate(
    runners: Sequence[Callable[[], object]],
    warmup: int,
    runs: int,
    random: np.random.Generator,
    progress: Callable[[], object] | None,
) -> np.ndarray:
    """Returns the seconds of every timed run, of shape (files, runs)."""
    seconds = np.zeros((len(runners), warmup + runs))
    for turn in range(warmup + runs):
        for place in random.permutation(len(runners)):
            start = time.perf_counter()
            runners[place]()
            seconds[place, turn] = time.perf_counter() - start
            if progress is not None:
                progress()
    return seconds[:, warmup:]


def _timings(
    found: Sequence[Audit],
    seconds: np.ndarray,
    threads: int,
    random: np.random.Generator,
) -> list[Timing]:
    low, median, high = _MS * np.quantile(seconds, (0.25, 0.5, 0.75), axis=1)
    ratio_low, ratio_high = _ratio_interval(seconds, random)
    return [
        Timing(
            **sizes(found[place]),
            threads=threads,
            runs=seconds.shape[1],
            ms=float(median[place]),
            typical="median",
            low_ms=float(low[place]),
            high_ms=float(high[place]),
            spread="quartiles",
            ratio=float(median[place] / median[0]),
            ratio_low=float(ratio_low[place]),
            ratio_high=float(ratio_high[place]),
            operations=[],
        )
        for place in range(len(found))
    ]


def sizes(found: Audit) -> dict[str, Any]:
    """Returns the part of a `Timing` that an audit knows."""
    return {
        "path": found.path,
        "size_bytes": found.size_bytes,
        "lce_bconv2d": found.lce_bconv2d,
        "float_ops": sum(op["count"] for op in found.float_ops),
    }


def _ratio_interval(seconds: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the 95 % bootstrap intervals of the ratios of medians to the first."""
    runs = seconds.shape[1]
    # Whole rounds are drawn, so that what slowed one down stays in both medians.
    drawn = (random.integers(runs, size=runs) for _ in range(_RESAMPLES))
    medians = np.stack([np.median(seconds[:, rounds], axis=1) for rounds in drawn])
    return np.quantile(medians / medians[:, :1], (0.025, 0.975), axis=0)


def _note(machine: str) -> str:
    if machine.lower() in _OPTIMISED:
        return (
            f"{machine}: LCE's optimised kernels ran. The times hold for this "
            "processor; another one has its own."
        )
    return (
        f"{machine}: LCE has optimised kernels for 64-bit ARM only, and its portable "
        "ones ran here. These times are no guide to a phone."
    )
