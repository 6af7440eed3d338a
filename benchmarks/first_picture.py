"""The picture of README and of the landing page, drawn from the logs in results/.

Nothing is measured, and TensorFlow is not needed.

    python benchmarks/first_picture.py             # or: make evidence
"""

from __future__ import annotations

import json
from pathlib import Path

from _drawing import promise

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "promise.svg"


def found(results):
    """The numbers of the picture, from the files that hold them."""
    return promise.found(
        *(
            json.loads((results / file).read_text(encoding="utf-8"))
            for file in promise.FILES
        )
    )


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    promise.draw(PICTURE, found(ROOT / "results"))
