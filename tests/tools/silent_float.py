"""Converts every spelling of a sign with everything that may stand before a kernel.

The suite has each spelling once; here are all pairs, for both runtimes. Nothing of two
values may be float without a word, and the file computes what Keras does.

    python tests/tools/silent_float.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.test_silent_float import BETWEEN, SIGNS, judged

RUNTIMES = ("lce", "litert")


def main() -> None:
    """Prints what became of all pairs, one turn of the second list at a time."""
    between, faults = [*BETWEEN], 0
    for turn in range(len(between)):
        turned = between[turn:] + between[:turn]
        pairs = [(s, turned[i % len(turned)]) for i, s in enumerate(SIGNS)]
        for runtime in RUNTIMES:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    binary, listed = judged(pairs, runtime, Path(folder))
                    said = f"{binary} binary, {len(listed)} listed"
                except Exception as error:  # whatever escapes is a fault
                    faults += 1
                    said = f"WRONG: {type(error).__name__}: {str(error)[:300]}"
            print(f"{runtime}, turn {turn}: {said}", flush=True)
    print(f"{len(between) * len(SIGNS)} pairs, {faults} conversions wrong")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
