"""Sizes of the files of networks: what each takes of flash and of memory.

    python benchmarks/file_sizes.py

Converts the trained networks, and designs at usual widths and image sizes, as C, for
TensorFlow Lite Micro, for LiteRT in int8 and for LCE, and writes the table that
`larq-nobn models --for` reads. Weights change no size, but for a few bytes.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import numpy as np
from larq_nobn.deploy import ConversionError, audit, convert, fake_quantize

TARGET = Path(nobn.models.__file__).parent / "sizes.json"
SMALL, MIDDLE, LARGE = (32, 32, 3), (96, 96, 3), (224, 224, 3)
# A builder, its arguments, and the sizes of images.
DESIGNS = (
    *(("ReActNet18", {"width": w}, (SMALL, MIDDLE)) for w in (16, 32, 64)),
    *(("BiRealNet18", {"width": w}, (SMALL,)) for w in (16, 64)),
    ("ResNet20", {}, (SMALL,)),
    ("VGGSmall", {}, (SMALL,)),
    ("QuickNetSmall", {}, (SMALL, MIDDLE, LARGE)),
    ("QuickNetSmall", {"width": 16}, (SMALL, MIDDLE)),
    ("BinaryDenseNet28", {}, (SMALL,)),
    ("MeliusNet22", {}, (SMALL, MIDDLE)),
    ("ReActNetA", {}, (MIDDLE, LARGE)),
    *(("ReActNet34", {"width": w}, (SMALL,)) for w in (16, 64)),
    *((name, {"width": 16}, (SMALL,)) for name in ("ReCUResNet18", "ReCUResNet34")),
    ("DoReFaNet", {}, (SMALL,)),
    *((f"MeliusNet{form}", {}, (SMALL,)) for form in ("A", "B", "C", "42")),
    *((name, {}, (SMALL,)) for name in ("QuickNet", "XNORNet18", "BinaryAlexNet")),
    *((name, {}, (SMALL,)) for name in ("QuickNetLarge", "BinaryDenseNet37")),
    *((name, {}, (SMALL,)) for name in ("BinaryDenseNet45", "MeliusNet29")),
    ("MeliusNet59", {}, (SMALL,)),
)
RUNTIMES = {"c": ".c", "micro": ".tflite", "litert": ".tflite", "lce": ".tflite"}


def sizes(name: str, model: Any, folder: Path) -> list[list[Any]]:
    random = np.random.default_rng(0)
    images = random.normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    ranged, rows = fake_quantize(model, images, verify=False), []
    for runtime, ending in RUNTIMES.items():
        path, int8 = folder / f"network{ending}", runtime in ("micro", "litert")
        given = ranged if int8 else model
        options = {"data": images, "verify": False, "int8": int8, "runtime": runtime}
        try:
            convert(given, path, **options)
        except ConversionError as error:
            print(f"{name}, {runtime}: {error}")
            continue
        found = audit(path)
        flash = found.flash_bytes or found.size_bytes
        memory = found.arena_bytes or found.peak_activation_bytes
        rows.append([name, model.input_shape[1:], runtime, flash, memory])
        print(*rows[-1], flush=True)
    return rows


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for trained in nobn.models.pretrained():
            builder = getattr(nobn.models, trained.model)
            rows += sizes(trained.name, builder(weights=trained.name), Path(folder))
        for builder, arguments, shapes in DESIGNS:
            for shape in shapes:
                model = getattr(nobn.models, builder)(shape, 10, **arguments)
                width = f" {arguments['width']}" if arguments else ""
                rows += sizes(f"{builder}{width}", model, Path(folder))
    lines = ",\n".join(map(json.dumps, rows))
    TARGET.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
