"""Writes the images that the app's unit test expects of its own pre-processing."""

import json
from pathlib import Path

import larq_nobn as nobn
import numpy as np
from larq_nobn.deploy import Card, Preprocessing, TensorInfo

FILE = Path(__file__).parent / "app" / "src" / "test" / "resources" / "expected.json"
RGB = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
GREY = ((0.3052,), (0.3760,))


def cases() -> list[dict]:
    """Returns images of odd shapes, with their metadata and images."""
    random = np.random.default_rng(0)
    shapes = [
        ((4, 4), Preprocessing(*RGB, size=(4, 4))),
        ((9, 13), Preprocessing(*RGB, size=(4, 4), crop=0.875)),
        ((11, 5), Preprocessing(*GREY, size=(3, 3))),
        ((7, 12), Preprocessing(*GREY, size=(2, 5), crop=0.7)),
        ((2, 3), Preprocessing(*RGB, size=(5, 4))),
    ]
    return [
        case(random.integers(0, 256, (*shape, 3), dtype=np.uint8), steps)
        for shape, steps in shapes
    ]


def case(picture: np.ndarray, steps: Preprocessing) -> dict:
    """Returns an image as rows of 0xRRGGBB, its metadata, and its image in a row."""
    metadata = Card(
        file="model.tflite",
        sha256="0" * 64,
        size_bytes=123,
        runtime="lce",
        input=TensorInfo("input", (1, *steps.image_shape), "float32"),
        output=TensorInfo("output", (1, 4), "float32"),
        preprocessing=steps,
        labels=("none", "one", "two", "three"),
    )
    return {
        "card": metadata.to_dict(),
        "picture": (picture @ [1 << 16, 1 << 8, 1]).tolist(),
        "image": steps(picture).ravel().tolist(),  # float32, exact as float64
    }


def text() -> str:
    """Returns what the file has to hold, a case per line."""
    lines = ",\n".join(json.dumps(case) for case in cases())
    return f"[\n{lines}\n]\n"


def main() -> None:
    """Writes the file."""
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE}: {len(cases())} images of larq_nobn {nobn.__version__}")


if __name__ == "__main__":
    main()
