"""Times on a phone: the commands that measure them, and reading what these print."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._checks import check_path
from .._errors import ConversionError
from ..inspection import Audit, audit
from ._benchmark import Benchmark, Timing, as_paths, check_counts, sizes

_TOOL = "lce_benchmark_model"
_FOLDER = "/data/local/tmp"  # the one place where Android lets adb run programs
_MS = 1e-3  # the tool counts in microseconds
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
# Newer tools log with a level, Android with a date and a tag as well.
_PREFIX = re.compile(r"^(?:.*\bI tflite\s*:|INFO:)\s?")
_COUNT = re.compile(rf"^count=\d+ .*\bcurr={_NUMBER}")
_PAIR = re.compile(rf"(\w+)=({_NUMBER})")
# Some versions call the average of the timed runs simply "Inference".
_END = re.compile(rf"nference timings in us: .*\bInference(?: \(avg\))?: {_NUMBER}")
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

    They expect the phone to be connected, with USB debugging switched on, and LCE's
    benchmark program in the current folder as `lce_benchmark_model`: it is part of a
    release of Larq Compute Engine, as `lce_benchmark_model_android_arm64`. The times of
    `model.tflite`, operation by operation, end up beside it in `model.tflite.log`,
    which `read_phone_logs` reads.

    Arguments:
        path: The file.
        against: Another file, or a list of them.
        runs: Timed runs of each file, at least 1.
        warmup: Runs of each that are not counted, at least 0.
        threads: Threads of the interpreter, at least 1.

    Returns:
        The commands, in their order.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        ```python
        import larq_nobn as nobn

        print(*nobn.deploy.phone_commands("model.tflite", threads=4), sep="\\n")
        ```
    """
    check_counts(runs, warmup, threads)
    files = dict.fromkeys(as_paths(path, against))
    flags = (
        f"--num_threads={threads} --num_runs={runs} --warmup_runs={warmup} "
        "--enable_op_profiling=true"
    )
    commands = [
        f"adb push {_TOOL} {_FOLDER}/{_TOOL}",
        f"adb shell chmod +x {_FOLDER}/{_TOOL}",
    ]
    names: list[str] = []
    for file in files:
        names.append(_plain(file, names))
        place = f"{_FOLDER}/{names[-1]}"
        log = shlex.quote(f"{file}.log")
        commands += [
            f"adb push {shlex.quote(file)} {place}",
            f"adb shell {_FOLDER}/{_TOOL} --graph={place} {flags} > {log} 2>&1",
        ]
    return commands


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
            differ, a result is of a file of another size, or a file is no intact
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
    results = [found for name in names for found in read_results(name)]
    if len(results) != len(files):
        raise ConversionError(
            f"The logs contain {len(results)} results, not {len(files)}. Pass one for "
            "each file, in their order."
        )
    audits = [audit(file) for file in files]
    for found, result in zip(audits, results, strict=True):
        _check_size(found, result)
    first = results[0].typical
    return Benchmark(
        source="lce_benchmark_model",
        note=f"Times of the device that wrote {', '.join(names)}.",
        timings=[_timing(f, r, first) for f, r in zip(audits, results, strict=True)],
    )


def _plain(file: str, taken: Sequence[str]) -> str:
    """A name of its own that needs no quotes in the phone's shell."""
    name = re.sub(r"[^\w.-]", "_", os.path.basename(file), flags=re.ASCII)
    return f"{len(taken)}_{name}" if name in taken else name


def _check_size(found: Audit, result: PhoneResult) -> None:
    megabytes = found.size_bytes / 1e6
    # The tool prints six digits.
    if result.megabytes and abs(result.megabytes / megabytes - 1) > 1e-5:
        raise ConversionError(
            f"{result.log!r} is of a file of {result.megabytes:g} MB, but "
            f"{found.path!r} has {megabytes:g} MB. Pass the logs in the order of the "
            "files, and the files as they were on the phone."
        )


def _timing(found: Audit, result: PhoneResult, first: float) -> Timing:
    times, typical = result.times, result.typical
    ends = ("p5", "p95") if "p5" in times else ("min", "max")
    low, high = (times.get(end, typical) for end in ends)
    return Timing(
        **sizes(found),
        threads=result.threads,
        runs=int(times["count"]),
        ms=_MS * typical,
        typical="median" if "median" in times else "mean",
        low_ms=_MS * low,
        high_ms=_MS * high,
        spread="5 to 95 %" if "p5" in times else "range",
        ratio=typical / first,
        ratio_low=None,
        ratio_high=None,
        operations=result.operations,
    )


@dataclass(frozen=True)
class PhoneResult:
    """What one run of the tool printed; times in microseconds."""

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


def read_results(log: str) -> list[PhoneResult]:
    """Returns the results in a log, in their order.

    Raises:
        ConversionError: If there is none.
    """
    text = _decoded(Path(log).read_bytes())
    lines = [_PREFIX.sub("", line) for line in text.splitlines()]
    results = list(_results(log, lines))
    if not results:
        raise ConversionError(_missing(log, lines))
    return results


def _decoded(content: bytes) -> str:
    # PowerShell's > writes UTF-16.
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if wide else "utf-8", errors="replace")


def _results(log: str, lines: list[str]) -> Iterator[PhoneResult]:
    """Yields the result of each start of the tool; one that was cut short has none."""
    starts = [place for place, line in enumerate(lines) if "STARTING!" in line]
    for start, end in zip([0, *starts], [*starts, len(lines)], strict=True):
        part = lines[start:end]
        last = [place for place, line in enumerate(part) if _END.search(line)]
        counts = [line for line in part[: last[0] if last else 0] if _COUNT.match(line)]
        if not counts:
            continue
        # The runs that warm up are counted in a line of their own, before the last.
        times = {name: float(value) for name, value in _PAIR.findall(counts[-1])}
        threads = _first(_THREADS, part)
        result = PhoneResult(
            log,
            megabytes=_first(_SIZE, part),
            threads=None if threads is None else int(threads),
            times=times,
            operations=_operations(part),
        )
        if result.typical > 0:  # or nobody could compare with it
            yield result


def _first(pattern: re.Pattern, lines: list[str]) -> float | None:
    matches = (pattern.search(line) for line in lines)
    return next((float(match[1]) for match in matches if match), None)


def _operations(lines: list[str]) -> list[dict[str, Any]]:
    """Returns the first summary by node type that is not that of the preparation."""
    preparing = False
    found: list[dict[str, Any]] = []
    rows = iter(lines)
    for line in rows:
        if "Profiling Info" in line:
            preparing = "Initialization" in line
        if "Summary by node type" in line and not preparing:
            next(rows, None)  # the names of the columns
            for row in rows:
                match = _OPERATION.match(row)
                if match is None:
                    return found
                name, count, ms, percent = match.groups()
                found.append(
                    {
                        "op": name,
                        "count": int(count),
                        "ms": float(ms),
                        "share": float(percent) / 100,
                    }
                )
    return found


def _missing(log: str, lines: list[str]) -> str:
    failed = next((line for line in lines if line.startswith("ERROR")), None)
    if failed is not None:
        return (
            f"{log!r} contains no times, but {_quoted(failed)}. See that the file is "
            "on the phone and that LCE's lce_benchmark_model runs it."
        )
    if any("STARTING!" in line or _COUNT.match(line) for line in lines):
        return (
            f"{log!r} ends before the times. Run the tool to its end and keep all that "
            "it prints."
        )
    begins = next((line for line in lines if line.strip()), "")
    return (
        f"{log!r} is no output of lce_benchmark_model; it begins with "
        f"{_quoted(begins)}. Pass the file that the commands of phone_commands wrote."
    )


def _quoted(line: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in line.strip()[:100])
    return f"'{shown}'"
