"""Tries networks, one number a line, until there are no more; as int8, if asked to.

Runs in a process of its own, which a crash of native code may end.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]


def main() -> None:
    """Answers every number by lines of JSON: what is done next, and the result."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    from .judge import judge

    def say(stage: str) -> None:
        answers.write(json.dumps({"stage": stage}) + "\n")

    say("ready")
    for line in sys.stdin:
        try:
            record = judge(int(line), say, int8="int8" in sys.argv)
        except Exception:  # of the fuzz itself
            said = traceback.format_exc()[-1500:]
            record = {"seed": int(line), "outcome": "untried", "said": said}
        answers.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
