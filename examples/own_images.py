"""Trains on an image folder and writes a TFLite model with class names as metadata.

python examples/own_images.py path/to/images    (or nothing, for generated ones)
"""

import sys
import tempfile
from pathlib import Path

import larq_nobn as nobn
import numpy as np
from PIL import Image, ImageDraw

work = Path(tempfile.mkdtemp())
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "images"
if not folder.exists():
    random = np.random.default_rng(0)
    for name in ("circle", "square", "stripe"):
        (folder / name).mkdir(parents=True)
        for number in range(200):
            image = Image.new("RGB", (48, 40), tuple(random.integers(0, 60, 3)))
            colour = tuple(random.integers(160, 256, 3))
            x, y = random.integers(2, (24, 16))
            box = [x, y, x + 20, y + (6 if name == "stripe" else 20)]
            pen = ImageDraw.Draw(image)
            (pen.ellipse if name == "circle" else pen.rectangle)(box, colour)
            image.save(folder / name / f"{number}.jpg")

print(nobn.data.inspect_folder(folder).classes)
settings = nobn.training.RunSettings.from_recipe(
    "small", dataset=str(folder), image_size=32, width=16, blocks=(2, 2), epochs=20
)
run = nobn.training.train(settings, work / "run")
info, file = run.dataset, work / "images.tflite"
test = nobn.data.load(folder, "test", 64, like=info)
nobn.convert(run.model, file, data=test, dataset=info)  # and labels for an app
accuracy = run.record["metrics"]["test_accuracy"]
print(f"test accuracy {accuracy:.3f}, labels and file:", file)
