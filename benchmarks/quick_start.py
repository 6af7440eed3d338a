"""CPU time of command lines that need no network.

Each is compared with a Python that only imports click and rich, in turns.

    python benchmarks/quick_start.py               # one minute
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from _drawing.markdown import table
from _results import RESULTS, leave
from PIL import Image

ROUNDS = 5
BASE = [sys.executable, "-c", "import click, rich"]
PROGRAM = str(Path(sys.executable).with_name("larq-nobn"))
LINES = {
    "larq-nobn --help": ["--help"],
    "larq-nobn train --help": ["train", "--help"],
    "larq-nobn convert --help": ["convert", "--help"],
    "unknown option": ["train", "--no-such-option"],
    "missing argument": ["evaluate"],
    "number out of range": ["train", "--output", "new", "--width", "0"],
    "larq-nobn data images": ["data", "images"],
    "completion": [],
}
COMPLETION = {
    "_LARQ_NOBN_COMPLETE": "bash_complete",
    "COMP_WORDS": "larq-nobn train --mod",
    "COMP_CWORD": "2",
}
EVERYTHING = "python -c 'import larq_nobn'"


def seconds(words, folder, **variables):
    """CPU time of a process, of both kinds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        words, cwd=folder, env=os.environ | variables, capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measured(folder):
    """Median seconds of each line; the first round only fills caches."""
    found = {"click and rich": []} | {name: [] for name in (*LINES, EVERYTHING)}
    for n in range(ROUNDS + 1):
        for name, times in found.items():
            more = COMPLETION if name == "completion" else {}
            words = [PROGRAM, *LINES.get(name, [])]
            if name == "click and rich":
                words = BASE
            if name == EVERYTHING:
                words = [sys.executable, "-c", "import larq_nobn"]
            time = seconds(words, folder, **more)
            if n:
                times.append(time)
    return {name: statistics.median(times) for name, times in found.items()}


@click.command()
def main():
    with tempfile.TemporaryDirectory() as name:
        for group in ("a", "b"):
            place = Path(name, "images", group)
            place.mkdir(parents=True)
            for k in range(10):
                pixels = np.full((32, 32, 3), 20 * k, np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")
        found = measured(Path(name))
    base = found["click and rich"]
    rows = [
        {"line": line, "seconds": round(time, 3), "ratio": round(time / base, 1)}
        for line, time in found.items()
    ]
    about = "CPU time of command lines, median of 5, against `import click, rich`"
    about = about, drawn, "click", "rich"
    leave(RESULTS / "quick_start", *about, rounds=ROUNDS, rows=rows)


def drawn(result):
    return table(
        ("command line", "CPU seconds", "ratio"),
        [
            [row["line"], f"{row['seconds']:.2f}", f"{row['ratio']:.1f}"]
            for row in result["rows"]
        ],
    )


if __name__ == "__main__":
    main()
