"""Measures the latency of files: in interpreters, side by side, and on a phone."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.table import Table

from ..._checks import check_bounds, check_path
from ..._errors import InvalidValue
from ..._keras import keras, of_keras_3
from ..._names import is_keras_file
from ..._tables import wilson_interval
from ...loading import open_model
from ...models import ModelProfile
from .._audit import Audit, audit
from .._errors import ConversionError
from .._shown import Shown
from ..lite._compiled import compiler
from ..lite._converter import interpreter_of

_MS = 1e3
_KINDS = ("binary", "int8", "float")
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The times of one file.

    Attributes:
        path: The path of the file.
        size_bytes: Its size in bytes.
        lce_bconv2d: The number of its binary convolutions.
        float_ops: The number of its float operations, as `audit` counts them.
        threads: The number of threads of the interpreter.
        runs: The number of timed runs.
        ms: The time of a typical run, in milliseconds.
        typical: What `ms` is: `"median"`.
        low_ms, high_ms: The ends of the spread.
        spread: What these ends are: `"quartiles"`, or on a phone `"5 to 95 %"`.
        ratio: `ms` divided by that of the first file.
        ratio_low, ratio_high: The 95 % interval of `ratio`; None on a phone, whose
            program prints no single runs.
        operations: On a phone, the time of each kind of operation,
            `{"op", "count", "ms", "share"}`, the slowest first.
        memory_bytes: The memory of a run of a C file, or the arena that a Micro file
            used; for others, the most bytes of feature maps at one time; None for a
            Keras model.
        binary_macs, float_macs, int8_macs: Multiply-accumulates of one run.
        accuracy: Top-1 accuracy on images; None if not measured.
        accuracy_interval: The 95 % interval of the accuracy; None likewise.
    """

    path: str
    size_bytes: int
    lce_bconv2d: int
    float_ops: int
    threads: int
    runs: int
    ms: float
    typical: str = "median"
    low_ms: float
    high_ms: float
    spread: str
    ratio: float = 1.0
    ratio_low: float | None = None
    ratio_high: float | None = None
    operations: list[dict[str, Any]] = field(default_factory=list)
    memory_bytes: int | None
    binary_macs: int
    float_macs: int
    int8_macs: int
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Benchmark(Shown):
    """The times of one file or of several side by side.

    Attributes:
        source: The interpreters or programs that ran the files.
        note: What these times tell, and what they do not.
        timings: One `Timing` for each file; ratios are to the first.
    """

    source: str
    note: str
    timings: list[Timing]

    def with_accuracies(self, scores: Sequence[tuple[float, int]]) -> Benchmark:
        """Returns a copy with each file's (accuracy, number of images)."""
        timings = [
            replace(
                timing,
                accuracy=accuracy,
                accuracy_interval=wilson_interval(accuracy, examples),
            )
            for timing, (accuracy, examples) in zip(self.timings, scores, strict=True)
        ]
        return replace(self, timings=timings)

    def verdict(self) -> str:
        """Returns which file to ship: the fastest that is not clearly less accurate.

        A file is left out if the interval of its accuracy ends below the best accuracy.
        Without accuracies, none is left out. Returns '' for a single file.
        """
        if len(self.timings) < 2:
            return ""
        best = max(timing.accuracy or 0.0 for timing in self.timings)
        close = [
            timing
            for timing in self.timings
            if timing.accuracy_interval is None or timing.accuracy_interval[1] >= best
        ]
        fastest = min(close, key=lambda timing: timing.ms)
        smallest = min(close, key=lambda timing: timing.size_bytes)
        text = f"Ship {fastest.path}: it is the fastest"
        if best:
            left = len(self.timings) - len(close)
            text += ", and no file is clearly more accurate"
            if left:
                text += f" ({left} faster or smaller ones are clearly less so)"
        if smallest is not fastest:
            text += f"; {smallest.path} is smaller"
        return f"{text}."

    def table(self) -> Table:
        """Returns the times as a `rich` table, one column for each file."""
        table = Table(
            title=f"Time of one run, {self.source}",
            title_justify="left",
            caption="\n".join(filter(None, (self.note, self.verdict()))),
            caption_justify="left",
        )
        table.add_column()
        for timing in self.timings:
            table.add_column(timing.path, justify="right", overflow="fold")
        columns = [_cells(timing) for timing in self.timings]
        for label in dict.fromkeys(chain(*columns)):
            table.add_row(label, *(cells.get(label, "") for cells in columns))
        return table


def _cells(timing: Timing) -> dict[str, str]:
    """Returns the cells of a file in the table, by row."""
    ends = timing.ratio_low, timing.ratio_high
    between = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends[0] != ends[1] else ""
    known = timing.memory_bytes is not None
    counts = {
        "binary convolutions": str(timing.lce_bconv2d),
        "float operations": str(timing.float_ops),
        "memory": f"{(timing.memory_bytes or 0) / 1e3:,.1f} kB",
        "threads": str(timing.threads),
    }
    cells = {
        "size": f"{timing.size_bytes / 1e3:,.1f} kB",
        **(counts if known else dict.fromkeys(counts, "-")),
        "MACs": ", ".join(_macs(timing)) or ("none" if known else "-"),
        "timed runs": str(timing.runs),
        "typical run": f"{timing.ms:,.3f} ms, {timing.typical}",
        "spread": f"{timing.low_ms:,.3f} to {timing.high_ms:,.3f} ms, {timing.spread}",
        "ratio to first (95 %)": f"{timing.ratio:.3f}{between}",
    }
    if timing.accuracy is not None and timing.accuracy_interval is not None:
        low, high = (f"{100 * end:.1f}" for end in timing.accuracy_interval)
        shown = f"{100 * timing.accuracy:.1f} % ({low} to {high})"
        cells["accuracy (95 %)"] = shown
    for op in timing.operations:
        cells[op["op"]] = f"{op['count']} in {op['ms']:,.3f} ms, {op['share']:.1%}"
    return cells


def _macs(timing: Timing) -> Iterator[str]:
    for kind in _KINDS:
        if count := getattr(timing, f"{kind}_macs"):
            yield f"{count / 1e6:,.2f} M {kind}"


def benchmark(
    path: str | os.PathLike,
    against: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 1,
    seed: int = 0,
    trust: bool = False,
    progress: Callable[[], object] | None = None,
) -> Benchmark:
    """Times `.tflite`, `.c` and `.keras` files side by side, each as it runs.

    The files take turns, run by run, in an order that is shuffled in every round, so
    whatever slows the computer down for a while affects all of them alike. A ratio is
    that of two medians over all rounds. Its interval contains the middle 95 % of ratios
    from rounds that are drawn again from the measured ones.

    On other processors than 64-bit ARM, LCE's interpreter runs portable kernels. Such
    times do not predict those of a phone; `larq_nobn.deploy.benchmark_on_phone`
    measures there.

    Arguments:
        path: The file to which the others are compared.
        against: Another file, or a list of them.
        runs: Timed runs of each file, at least 1.
        warmup: Earlier runs of each file, which are not counted, at least 0.
        threads: Threads of the interpreter, at least 1.
        seed: Seed of the random inputs and of the order. Inputs that are looked up in
            tables, such as tokens, are 0.
        trust: Whether to open `.keras` files as Keras does, which runs code in them.
        progress: Called after every run of a file, `runs + warmup` times for each.

    Returns:
        A `Benchmark`.

    Raises:
        ConversionError: If a file is missing, is not an intact TFLite file or cannot be
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
    opened = [_opened(x, threads, seed, trust) for x in _files(path, against)]
    audits, runners = zip(*opened, strict=True)
    random = np.random.default_rng(seed)
    seconds = _alternate(runners, warmup, runs, random, progress)
    machine, note = platform.machine(), "the times hold for this processor alone."
    with_lce = any(audited.runtime == "lce" for audited in audits)
    if with_lce and machine.lower() not in ("aarch64", "arm64"):
        note = (
            "LCE has optimized kernels for 64-bit ARM only, and its portable ones ran "
            "here. These times do not predict those of a phone."
        )
    return Benchmark(
        source=f"this computer ({machine})",
        note=f"{machine}: {note}",
        timings=_timings(audits, seconds, threads, random),
    )


def check_runs(runtime: str, phone: bool) -> None:
    """Rejects C and Micro files on a phone, and C files without a compiler."""
    if phone:
        kind = "C files" if runtime == "c" else "Files for Micro"
        raise ConversionError(
            f"{kind} run in no benchmark program for phones. Time them without --phone."
        )
    if runtime == "c":
        compiler()


def check_counts(runs: int, warmup: int, threads: int) -> None:
    """Checks the numbers of runs and threads."""
    for name, value in (("runs", runs), ("warmup", warmup), ("threads", threads)):
        check_bounds(name, value)


def _files(path: Any, against: Any) -> list[str]:
    """Returns the paths of all files, the one to compare with first."""
    several = isinstance(against, list | tuple)
    others = against if several else () if against is None else [against]
    return [check_path("path", path), *(check_path("against", x) for x in others)]


def _opened(
    file: str, threads: int, seed: int, trust: bool
) -> tuple[Audit, Callable[[], object]]:
    """Returns what a file contains, and what runs it on the same random numbers.

    A file that looks numbers up in tables rejects most of them, and runs on zeros.
    """
    if is_keras_file(file):
        model = open_model(file, trust=trust)
        found, predict = _audit_of_model(file, model), model.predict_on_batch
        kinds = [((1, *x.shape[1:]), x.dtype) for x in model.inputs or ()]
        if not kinds or any(None in shape for shape, _ in kinds):
            raise InvalidValue(
                f"{file!r} does not say the size of an example, so it cannot be timed. "
                "Build the model with a keras.Input of that size."
            )
    else:
        found = audit(file)
        interpreter = interpreter_of(Path(file).read_bytes(), threads, file)
        predict = interpreter.predict
        kinds = [(tensor.shape, tensor.dtype) for tensor in interpreter.inputs]
    random, inputs = np.random.default_rng(seed), []
    for shape, dtype in kinds:
        kind = np.dtype(getattr(dtype, "name", dtype))
        if kind.kind in "iu":
            ends = np.iinfo(kind).min, np.iinfo(kind).max
            inputs.append(random.integers(*ends, shape, kind, endpoint=True))
        else:
            inputs.append(random.normal(size=shape).astype(kind))
    try:
        predict(inputs)
    except (RuntimeError, tf.errors.InvalidArgumentError):
        inputs = [np.zeros_like(array) for array in inputs]
    return found, lambda: predict(inputs)


def _audit_of_model(file: str, model: keras.Model) -> Audit:
    """Returns what is known of a Keras model's file, which computes in float."""
    macs = 0 if of_keras_3(model) else ModelProfile(model).op_count("mac")
    fields: dict[str, Any] = {
        **dict.fromkeys(("lce_bconv2d", "binary_macs", "bitpacked_outputs"), 0),
        **{name: [] for name in ("float_ops", "operations", "savings")},
        **{"size_bytes": Path(file).stat().st_size, "peak_activation_bytes": 0},
    }
    return Audit(path=file, runtime="keras", ops={}, float_macs=macs, **fields)


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
    audits: Sequence[Audit],
    seconds: np.ndarray,
    threads: int,
    random: np.random.Generator,
) -> list[Timing]:
    runs = seconds.shape[1]
    low, median, high = _MS * np.quantile(seconds, (0.25, 0.5, 0.75), axis=1)
    # Whole rounds are drawn, so a slow round stays in the medians of all files.
    drawn = (random.integers(runs, size=runs) for _ in range(_RESAMPLES))
    medians = np.stack([np.median(seconds[:, rounds], axis=1) for rounds in drawn])
    ratios = np.quantile(medians / medians[:, :1], (0.025, 0.975), axis=0)
    return [
        Timing(
            **_sizes(audited),
            threads=threads,
            runs=runs,
            ms=float(median[place]),
            low_ms=float(low[place]),
            high_ms=float(high[place]),
            spread="quartiles",
            ratio=float(median[place] / median[0]),
            ratio_low=float(ratios[0, place]),
            ratio_high=float(ratios[1, place]),
        )
        for place, audited in enumerate(audits)
    ]


def _sizes(audited: Audit) -> dict[str, Any]:
    """Returns the fields of a `Timing` that an audit knows."""
    return {
        "path": audited.path,
        "size_bytes": audited.size_bytes,
        "lce_bconv2d": audited.lce_bconv2d,
        "float_ops": sum(op["count"] for op in audited.float_ops),
        "memory_bytes": audited.arena_bytes or audited.peak_activation_bytes or None,
        **{f"{kind}_macs": getattr(audited, f"{kind}_macs") for kind in _KINDS},
    }


# --- on a phone

# For each runtime: its benchmark program, where to get that, and flags of its own.
_TOOLS = {
    "lce": (
        "lce_benchmark_model",
        "lce_benchmark_model_android_arm64 of a release of Larq Compute Engine",
        [],
    ),
    "litert": (
        "benchmark_model",
        "android_aarch64_benchmark_model, which LiteRT's page on performance links to",
        ["--use_xnnpack=true"],
    ),
}
_FOLDER = "/data/local/tmp"  # the one place where Android lets adb run programs
_MICROSECOND = 1e-3  # in milliseconds; the tool prints microseconds
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_COUNT = re.compile(
    rf"^count=(\d+) .*\bp5=({_NUMBER}) median=({_NUMBER}) p95=({_NUMBER})", re.MULTILINE
)
_END = "Inference timings in us:"
_PROFILE = re.compile(r"Info for Regular Benchmark Runs.*?Summary by node type", re.S)
_OPERATION = re.compile(
    # Name, which may contain blanks, count, ms, %, cumulative %, and what follows.
    rf"^\s*(\S.*?)\s+(\d+)\s+({_NUMBER})\s+({_NUMBER})%\s+{_NUMBER}%\s"
)


def _phone_calls(
    audits: Sequence[Audit], runs: int, warmup: int, threads: int
) -> Iterator[tuple[str, list[list[str]]]]:
    """Yields each file once, with the arguments of the calls of adb that time it.

    The calls copy the file, and programs that the phone lacks. The last prints times.
    """
    counts = [f"--num_threads={threads}", f"--num_runs={runs}"]
    counts += [f"--warmup_runs={warmup}", "--enable_op_profiling=true"]
    taken: list[str] = []
    for file, runtime in {audited.path: audited.runtime for audited in audits}.items():
        tool, _, flags = _TOOLS[runtime]
        place, calls = f"{_FOLDER}/{tool}", list[list[str]]()
        if place not in taken:
            calls += [["push", tool, place], ["shell", "chmod", "+x", place]]
        # Distinct names that need no quotes in the phone's shell.
        name = re.sub(r"[^\w.-]", "_", os.path.basename(file), flags=re.ASCII)
        graph = f"{_FOLDER}/{name}"
        if graph in taken:
            graph = f"{_FOLDER}/{len(taken)}_{name}"
        taken += [place, graph]
        calls += [["push", file, graph]]
        calls += [["shell", place, f"--graph={graph}", *counts, *flags]]
        yield file, calls


def benchmark_on_phone(
    path: str | os.PathLike,
    against: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 1,
    progress: Callable[[], object] | None = None,
) -> Benchmark:
    """Times `.tflite` files on the Android phone that `adb` is connected to.

    Each file runs in the benchmark program of its runtime, one file after the other.
    USB debugging must be switched on, and the programs in the current folder: for files
    with operations of LCE `lce_benchmark_model`, which is part of a release of Larq
    Compute Engine as `lce_benchmark_model_android_arm64`; for others `benchmark_model`,
    which LiteRT offers as `android_aarch64_benchmark_model`.

    Arguments:
        path, against, runs, warmup, threads: As in `benchmark`.
        progress: Called after every file.

    Returns:
        A `Benchmark`.

    Raises:
        ConversionError: If a file is missing or is not an intact TFLite file, a program
            is not in the current folder, or `adb` or the phone fails.
        ValueError: If a number is out of its range.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        for runtime in ("lce", "litert"):
            nobn.convert(model, f"{runtime}.tflite", runtime=runtime)
        try:
            print(nobn.deploy.benchmark_on_phone("lce.tflite", "litert.tflite"))
        except nobn.deploy.ConversionError as error:
            print(error)  # without a phone
        ```
    """
    check_counts(runs, warmup, threads)
    files = [audit(file) for file in _files(path, against)]
    for file in files:
        if file.runtime not in _TOOLS:
            check_runs(file.runtime, phone=True)
        tool, origin, _ = _TOOLS[file.runtime]
        if not Path(tool).is_file():
            raise ConversionError(
                f"{tool!r}, which runs {file.path!r} on a phone, is not in the current "
                f"folder. Save {origin}, under that name."
            )
    logs: dict[str, str] = {}
    for name, calls in _phone_calls(files, runs, warmup, threads):
        logs[name] = [_adb(arguments) for arguments in calls][-1]
        if progress is not None:
            progress()
    return Benchmark(
        source="benchmark programs on the connected phone",
        note="Files ran one after the other: repeat it, since phones slow down when "
        "warm.",
        timings=_phone_timings(files, logs, threads),
    )


def _adb(arguments: Sequence[str]) -> str:
    """Calls adb, and returns all that it prints."""
    try:
        done = subprocess.run(
            ["adb", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError as error:
        raise ConversionError(
            "'adb', which talks to a phone, was not found. Install Android's platform "
            "tools, and add their folder to PATH."
        ) from error
    if done.returncode:
        reason = _reason(done.stdout)
        raise ConversionError(
            f"adb {' '.join(arguments[:2])} failed with {reason!r}. Connect one phone, "
            "with USB debugging switched on, and check that the program runs there."
        )
    return done.stdout


def _phone_timings(
    audits: Sequence[Audit], logs: Mapping[str, str], threads: int
) -> list[Timing]:
    """Returns the times of files that their programs printed."""
    timings = list[Timing]()
    for audited in audits:
        text = logs[audited.path].replace("INFO: ", "")
        before, *ends = text.split(_END)
        counts = _COUNT.findall(before)
        if not ends or not counts:
            raise ConversionError(
                f"The program that ran {audited.path!r} printed no times, but "
                f"{_reason(text)!r}. Use that of the current release."
            )
        # Warm-up runs have a line of their own, before the last one.
        runs, low, median, high = map(float, counts[-1])
        timing = Timing(
            **_sizes(audited),
            threads=threads,
            runs=int(runs),
            ms=_MICROSECOND * median,
            low_ms=_MICROSECOND * low,
            high_ms=_MICROSECOND * high,
            spread="5 to 95 %",
            ratio=median * _MICROSECOND / timings[0].ms if timings else 1.0,
            operations=_operations(text),
        )
        timings.append(timing)
    return timings


def _operations(text: str) -> list[dict[str, Any]]:
    """Returns the summary by node type of the timed runs."""
    _, *summary = _PROFILE.split(text, 1)
    rows = summary[0].splitlines()[2:] if summary else []  # after title and columns
    matches = takewhile(bool, map(_OPERATION.match, rows))
    found = (match.groups() for match in matches if match)
    return [
        {"op": op, "count": int(count), "ms": float(ms), "share": float(percent) / 100}
        for op, count, ms, percent in found
    ]


def _reason(text: str) -> str:
    """Returns the line of a program's output that says what failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no words"]
    shown = next((line for line in lines if line.startswith("ERROR")), lines[-1])
    return "".join(c if c.isprintable() else "?" for c in shown[:100])
