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
from _results import leave, output
from PIL import Image

ROUNDS = 5
PROGRAM = str(Path(sys.executable).with_name("larq-nobn"))
BASE = "click and rich"
LINES = {
    BASE: [sys.executable, "-c", "import click, rich"],
    "larq-nobn --help": [PROGRAM, "--help"],
    "larq-nobn train --help": [PROGRAM, "train", "--help"],
    "larq-nobn convert --help": [PROGRAM, "convert", "--help"],
    "unknown option": [PROGRAM, "train", "--no-such-option"],
    "missing argument": [PROGRAM, "evaluate"],
    "number out of range": [PROGRAM, "train", "--output", "new", "--width", "0"],
    "larq-nobn data images": [PROGRAM, "data", "images"],
    "completion": ["env", "_LARQ_NOBN_COMPLETE=bash_complete", "COMP_CWORD=2"]
    + ["COMP_WORDS=larq-nobn train --mod", PROGRAM],
    "python -c 'import larq_nobn'": [sys.executable, "-c", "import larq_nobn"],
}


def seconds(words, folder):
    """CPU time of a process, of both kinds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=folder, env=os.environ, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@click.command()
@output("quick_start")
def main(output):
    times = {name: [] for name in LINES}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(20):
            place = Path(folder, "images", "ab"[k % 2], f"{k}.png")
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), 10 * k, np.uint8)).save(place)
        for _ in range(ROUNDS + 1):
            for name, words in LINES.items():
                times[name].append(seconds(words, folder))
    # The first round only fills caches.
    found = {name: statistics.median(of[1:]) for name, of in times.items()}
    rows = [
        {"line": line, "seconds": round(time, 3), "ratio": round(time / found[BASE], 1)}
        for line, time in found.items()
    ]
    about = "CPU time of command lines, median of 5, against `import click, rich`"
    leave(output, about, drawn, "click", "rich", rounds=ROUNDS, rows=rows)


def drawn(result):
    head = ("command line", "CPU seconds", "ratio")
    return table(head, [row.values() for row in result["rows"]])


if __name__ == "__main__":
    main()
