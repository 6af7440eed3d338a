"""From a file to its times on a phone: the commands, and reading what they print."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from .._errors import ConversionError
from ..inspection import Audit, audit
from ._benchmark import as_paths, check_counts, sizes
from ._log import PhoneResult, read_results
from ._timing import Benchmark, Timing

_TOOL = "lce_benchmark_model"
_FOLDER = "/data/local/tmp"  # the one place where Android lets adb run programs
_MS = 1e-3  # the tool counts in microseconds


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
        ConversionError: If a log holds no times, the numbers of files and results
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
    given = [logs] if isinstance(logs, str | os.PathLike) else logs
    names = [os.fspath(log) for log in given]
    results = [found for name in names for found in read_results(name)]
    if len(results) != len(files):
        raise ConversionError(
            f"The logs hold {len(results)} results, not {len(files)}. Pass one for "
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
