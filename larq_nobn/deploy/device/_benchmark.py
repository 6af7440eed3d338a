"""Latency of files: in interpreters, side by side, and on a device."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ..._checks import check_bounds, check_path
from .._errors import ConversionError
from .._shown import Shown
from ..inspection import Audit, audit
from ..lite._converter import interpreter_of

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
    """Times `.tflite` files side by side, each in the interpreter of its runtime.

    The files take turns, run by run, in an order that is shuffled again in every round:
    what slows the computer down for a while hits them all alike. A ratio is that of
    two medians over all rounds, and its interval the middle 95 % of what rounds drawn
    again from those measured would give.

    On other processors than 64-bit ARM, LCE's interpreter runs portable kernels. Such
    times do not predict those of a phone; `larq_nobn.deploy.phone_commands` gives the
    commands that measure there.

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
    files = as_paths(path, against)
    audits = [audit(file) for file in files]
    runners = [_runner(file, threads, seed) for file in files]
    random = np.random.default_rng(seed)
    seconds = _alternate(runners, warmup, runs, random, progress)
    return Benchmark(
        source=f"this computer ({platform.machine()})",
        note=_note(platform.machine(), {audited.runtime for audited in audits}),
        timings=_timings(audits, seconds, threads, random),
    )


def check_counts(runs: int, warmup: int, threads: int) -> None:
    """Checks what is counted, here and on a device."""
    for name, value in (("runs", runs), ("warmup", warmup), ("threads", threads)):
        check_bounds(name, value)


def as_paths(
    path: str | os.PathLike,
    against: str | os.PathLike | Sequence[str | os.PathLike] | None,
) -> list[str]:
    """Returns the names of all files, the one to compare with first."""
    several = isinstance(against, list | tuple)
    others: Any = against if several else () if against is None else [against]
    return [check_path("path", path), *(check_path("against", x) for x in others)]


def _runner(file: str, threads: int, seed: int) -> Callable[[], object]:
    """Returns a function that runs a file once, always on the same random numbers."""
    content = Path(file).read_bytes()
    interpreter = interpreter_of(content, threads, repr(file))
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
    audits: Sequence[Audit],
    seconds: np.ndarray,
    threads: int,
    random: np.random.Generator,
) -> list[Timing]:
    runs = seconds.shape[1]
    low, median, high = _MS * np.quantile(seconds, (0.25, 0.5, 0.75), axis=1)
    # Whole rounds are drawn, so that what slowed one down stays in both medians.
    drawn = (random.integers(runs, size=runs) for _ in range(_RESAMPLES))
    medians = np.stack([np.median(seconds[:, rounds], axis=1) for rounds in drawn])
    ratios = np.quantile(medians / medians[:, :1], (0.025, 0.975), axis=0)
    return [
        Timing(
            **sizes(audited),
            threads=threads,
            runs=runs,
            ms=float(median[place]),
            typical="median",
            low_ms=float(low[place]),
            high_ms=float(high[place]),
            spread="quartiles",
            ratio=float(median[place] / median[0]),
            ratio_low=float(ratios[0, place]),
            ratio_high=float(ratios[1, place]),
            operations=[],
        )
        for place, audited in enumerate(audits)
    ]


def sizes(audited: Audit) -> dict[str, Any]:
    """Returns the part of a `Timing` that an audit knows."""
    return {
        "path": audited.path,
        "size_bytes": audited.size_bytes,
        "lce_bconv2d": audited.lce_bconv2d,
        "float_ops": sum(op["count"] for op in audited.float_ops),
    }


def _note(machine: str, runtimes: Container[str]) -> str:
    if "lce" not in runtimes:
        return (
            f"{machine}: the times hold for this processor; they do not predict those "
            "of a phone."
        )
    if machine.lower() in _OPTIMISED:
        return (
            f"{machine}: LCE's optimized kernels ran. The times hold for this "
            "processor; another one has its own."
        )
    return (
        f"{machine}: LCE has optimized kernels for 64-bit ARM only, and its portable "
        "ones ran here. These times do not predict those of a phone."
    )


# --- on a device: the commands that measure, and reading what these print

# The program of each runtime, what releases call it, and flags of its own.
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
_MICROSECOND = 1e-3  # which the tool counts in, in milliseconds
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
# Newer tools log with a level, Android with a date and a tag as well.
_PREFIX = re.compile(r"^(?:.*\bI tflite\s*:|INFO:)\s?")
_COUNT = re.compile(rf"^count=\d+ .*\bcurr={_NUMBER}")
_PAIR = re.compile(rf"(\w+)=({_NUMBER})")
_END = re.compile(rf"Inference timings in us: .*\bInference \(avg\): {_NUMBER}")
_SIZE = re.compile(rf"input model file size \(MB\): ({_NUMBER})")
_THREADS = re.compile(r"(?:Num threads|#threads used for CPU inference): \[(\d+)\]")
_OPERATION = re.compile(
    # Name, which may contain blanks, count, ms, %, cumulative %, and what follows.
    rf"^\s*(\S.*?)\s+(\d+)\s+({_NUMBER})\s+({_NUMBER})%\s+{_NUMBER}%\s"
)


def phone_commands(
    path: str | os.PathLike,
    against: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 1,
) -> list[str]:
    """Returns the commands that time files on an Android phone.

    They expect the phone to be connected, with USB debugging switched on, and the
    benchmark program of each runtime in the current folder: for files with operations
    of LCE `lce_benchmark_model`, which is part of a release of Larq Compute Engine as
    `lce_benchmark_model_android_arm64`; for others `benchmark_model`, which LiteRT
    offers as `android_aarch64_benchmark_model`. The times of `model.tflite`, operation
    by operation, end up beside it in `model.tflite.log`, which `read_phone_logs` reads.
    `benchmark_on_phone` does all of it.

    Arguments:
        path: The file.
        against: Another file, or a list of them.
        runs: Timed runs of each file, at least 1.
        warmup: Runs of each that are not counted, at least 0.
        threads: Threads of the interpreter, at least 1.

    Returns:
        The commands, in their order.

    Raises:
        ConversionError: If a file is missing or is not an intact TFLite file.
        ValueError: If a number is out of its range.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        nobn.convert(model, "model.tflite")
        print(*nobn.deploy.phone_commands("model.tflite", threads=4), sep="\\n")
        ```
    """
    check_counts(runs, warmup, threads)
    commands = []
    audits = [audit(file) for file in as_paths(path, against)]
    for arguments, file in _phone_calls(audits, runs, warmup, threads):
        line = shlex.join(["adb", *arguments])
        log = f" > {shlex.quote(f'{file}.log')} 2>&1"
        commands.append(line + (log if file else ""))
    return commands


def _phone_calls(
    audits: Sequence[Audit], runs: int, warmup: int, threads: int
) -> Iterator[tuple[list[str], str]]:
    """Yields what puts programs and files on a phone and times each file once.

    That is the arguments of adb, and the file of which it prints the times, or "".
    """
    counts = [f"--num_threads={threads}", f"--num_runs={runs}"]
    counts += [f"--warmup_runs={warmup}", "--enable_op_profiling=true"]
    names: list[str] = []
    tools: list[str] = []
    for file, runtime in {audited.path: audited.runtime for audited in audits}.items():
        tool, _, flags = _TOOLS[runtime]
        place = f"{_FOLDER}/{tool}"
        if tool not in tools:
            tools.append(tool)
            yield ["push", tool, place], ""
            yield ["shell", "chmod", "+x", place], ""
        # Names of their own that need no quotes in the phone's shell.
        name = re.sub(r"[^\w.-]", "_", os.path.basename(file), flags=re.ASCII)
        names.append(f"{len(names)}_{name}" if name in names else name)
        graph = f"{_FOLDER}/{names[-1]}"
        yield ["push", file, graph], ""
        yield ["shell", place, f"--graph={graph}", *counts, *flags], file


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

    Runs what `phone_commands` returns, and reads what it prints: each file runs in the
    benchmark program of its runtime, one file after the other.

    Arguments:
        path: The file to which the others are compared.
        against: Another file, or a list of them.
        runs: Timed runs of each file, at least 1.
        warmup: Runs of each that are not counted, at least 0.
        threads: Threads of the interpreter, at least 1.
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
    files = [audit(file) for file in as_paths(path, against)]
    calls = list(_phone_calls(files, runs, warmup, threads))
    for file in files:
        tool, origin, _ = _TOOLS[file.runtime]
        if not Path(tool).is_file():
            raise ConversionError(
                f"{tool!r}, which runs {file.path!r} on a phone, is not in the current "
                f"folder. Save {origin}, under that name."
            )
    logs: dict[str, bytes] = {}
    for arguments, name in calls:
        printed = _adb(arguments)
        if name:
            logs[name] = printed
            if progress is not None:
                progress()
    result = _benchmark_of(files, [(file.path, logs[file.path]) for file in files])
    note = "Files ran one after the other: repeat it, since phones slow down when warm."
    return replace(
        result, source="benchmark programs on the connected phone", note=note
    )


def _adb(arguments: Sequence[str]) -> bytes:
    """Calls adb, and returns all that it prints."""
    try:
        done = subprocess.run(
            ["adb", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise ConversionError(
            "'adb', which talks to a phone, was not found. Install Android's platform "
            "tools, and add their folder to PATH."
        ) from error
    if done.returncode:
        lines = done.stdout.decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()] or ["no words"]
        shown = next((line for line in said if line.startswith("ERROR")), said[-1])
        text = "".join(c if c.isprintable() else "?" for c in shown[:100])
        raise ConversionError(
            f"adb {' '.join(arguments[:2])} failed with {text!r}. Connect one phone, "
            "with USB debugging switched on, and see that the program runs there."
        )
    return done.stdout


def read_phone_logs(
    path: str | os.PathLike,
    logs: str | os.PathLike | Sequence[str | os.PathLike],
    against: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
) -> Benchmark:
    """Reads the times that a phone took, into the table that `benchmark` gives.

    A log is what LCE's `lce_benchmark_model`, or another build of TensorFlow Lite's
    benchmark tool, printed. Older ones print no median; then the mean stands in its
    place. Ratios have no interval: the tool prints no single runs.

    Arguments:
        path: The file that the first result is of.
        logs: A log or a list of them, with one result for each file, in their order.
        against: Another file, or a list of them.

    Returns:
        A `Benchmark`.

    Raises:
        ConversionError: If a log contains no times, the numbers of files and results
            differ, a result is of a file of another size, or a file is not an intact
            TFLite file.
        OSError: If a log cannot be read.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        nobn.convert(model, "model.tflite")
        with open("model.tflite.log", "w") as log:
            log.write(
                "count=50 first=912 curr=906 min=898 max=940 avg=908.2 std=7\\n"
                "Inference timings in us: Init: 412, First inference: 1310, "
                "Warmup (avg): 921.5, Inference (avg): 908.2\\n"
            )
        print(nobn.deploy.read_phone_logs("model.tflite", "model.tflite.log"))
        ```
    """
    files = as_paths(path, against)
    given: Sequence[Any] = logs if isinstance(logs, list | tuple) else [logs]
    names = [check_path("logs", log) for log in given]
    contents = [(name, Path(name).read_bytes()) for name in names]
    return _benchmark_of([audit(file) for file in files], contents)


def _benchmark_of(
    files: Sequence[Audit], logs: Sequence[tuple[str, bytes]]
) -> Benchmark:
    """Times of files from logs, in their order: of each its name and its content."""
    results = [result for log in logs for result in read_results(*log)]
    if len(results) != len(files):
        raise ConversionError(
            f"The logs contain {len(results)} results, not {len(files)}. Pass one for "
            "each file, in their order."
        )
    timings = []
    for audited, result in zip(files, results, strict=True):
        times, typical = result.times, result.typical
        megabytes = audited.size_bytes / 1e6
        # The tool prints six digits.
        if result.megabytes and abs(result.megabytes / megabytes - 1) > 1e-5:
            raise ConversionError(
                f"{result.log!r} is of a file of {result.megabytes:g} MB, but "
                f"{audited.path!r} has {megabytes:g} MB. Pass the logs in the order of "
                "the files, and the files as they were on the device."
            )
        ends = ("p5", "p95") if "p5" in times else ("min", "max")
        low, high = (times.get(end, typical) for end in ends)
        timing = Timing(
            **sizes(audited),
            threads=result.threads,
            runs=int(times["count"]),
            ms=_MICROSECOND * typical,
            typical="median" if "median" in times else "mean",
            low_ms=_MICROSECOND * low,
            high_ms=_MICROSECOND * high,
            spread="5 to 95 %" if "p5" in times else "range",
            ratio=typical / results[0].typical,
            ratio_low=None,
            ratio_high=None,
            operations=result.operations,
        )
        timings.append(timing)
    note = f"Times of the device that wrote {', '.join(name for name, _ in logs)}."
    return Benchmark("lce_benchmark_model", note, timings)


@dataclass(frozen=True)
class PhoneResult:
    """The times that one run of the tool printed, in microseconds."""

    log: str
    megabytes: float | None
    threads: int | None
    times: dict[str, float]
    operations: list[dict[str, Any]]

    @property
    def typical(self) -> float:
        """The median, or the mean where there is none."""
        times = self.times
        # A single run, and runs that took equally long, are printed as one number.
        return times.get("median", times.get("avg", times["curr"]))


def read_results(log: str, content: bytes) -> list[PhoneResult]:
    """Returns the results in a log of that name, in their order."""
    # PowerShell's > writes UTF-16.
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = content.decode("utf-16" if wide else "utf-8", errors="replace")
    lines = [_PREFIX.sub("", line) for line in text.splitlines()]
    starts = [place for place, line in enumerate(lines) if "STARTING!" in line]
    results = []
    for start, end in zip([0, *starts], [*starts, len(lines)], strict=True):
        part = lines[start:end]
        last = [place for place, line in enumerate(part) if _END.search(line)]
        counts = [line for line in part[: last[0] if last else 0] if _COUNT.match(line)]
        if not counts:
            continue  # it was cut short
        # The runs that warm up are counted in a line of their own, before the last.
        times = {name: float(value) for name, value in _PAIR.findall(counts[-1])}
        size, threads = (
            next((float(m[1]) for m in map(pattern.search, part) if m), None)
            for pattern in (_SIZE, _THREADS)
        )
        threads = None if threads is None else int(threads)
        result = PhoneResult(log, size, threads, times, _operations(part))
        if result.typical > 0:  # or nobody could compare with it
            results.append(result)
    if not results:
        raise ConversionError(_missing(log, lines))
    return results


def _operations(lines: list[str]) -> list[dict[str, Any]]:
    """Returns the first summary by node type that is not that of the preparation."""
    preparing = False
    operations: list[dict[str, Any]] = []
    rows = iter(lines)
    for line in rows:
        if "Profiling Info" in line:
            preparing = "Initialization" in line
        if "Summary by node type" in line and not preparing:
            next(rows, None)  # the names of the columns
            for line in rows:
                match = _OPERATION.match(line)
                if match is None:
                    return operations
                name, count, ms, percent = match.groups()
                row = {"op": name, "count": int(count), "ms": float(ms)}
                operations.append({**row, "share": float(percent) / 100})
    return operations


def _missing(log: str, lines: list[str]) -> str:
    failed = next((line for line in lines if line.startswith("ERROR")), None)
    first = failed or next((line for line in lines if line.strip()), "")
    shown = "".join(c if c.isprintable() else "?" for c in first.strip()[:100])
    if failed is not None:
        return (
            f"{log!r} contains no times, but '{shown}'. See that the file is on the "
            "device and that LCE's lce_benchmark_model runs it."
        )
    if any("STARTING!" in line or _COUNT.match(line) for line in lines):
        return (
            f"{log!r} ends before the times. Run the tool to its end and keep all that "
            "it prints."
        )
    return (
        f"{log!r} is no output of lce_benchmark_model; it starts with '{shown}'. Pass "
        "the file that the commands of phone_commands wrote."
    )
