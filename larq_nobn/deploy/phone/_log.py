"""Reads what TensorFlow Lite's benchmark tool, and so LCE's, prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._errors import ConversionError

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
    # Name, which may hold blanks, count, ms, %, cumulative %, and what follows.
    rf"^\s*(\S.*?)\s+(\d+)\s+({_NUMBER})\s+({_NUMBER})%\s+{_NUMBER}%\s"
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
            f"{log!r} holds no times, but {_quoted(failed)}. See that the file is on "
            "the phone and that LCE's lce_benchmark_model runs it."
        )
    if any("STARTING!" in line or _COUNT.match(line) for line in lines):
        return (
            f"{log!r} ends before the times. Run the tool to its end and keep all that "
            "it prints."
        )
    begins = next((line for line in lines if line.strip()), "")
    return (
        f"{log!r} is no output of lce_benchmark_model; it begins with "
        f"{_quoted(begins)}. Pass the file that the commands for the phone wrote."
    )


def _quoted(line: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in line.strip()[:100])
    return f"'{shown}'"
