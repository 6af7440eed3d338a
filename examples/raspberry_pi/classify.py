"""Classifies images with a file for LiteRT: no TensorFlow, no Larq.

pip install ai-edge-litert numpy pillow
python classify.py model.tflite image.jpg [image.jpg ...]

`larq-nobn convert RUN model.tflite --runtime litert` writes the file and its JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def prepared(pixels, steps):
    """Bytes (height, width, 3) as the network takes them, (1, height, width, channels).

    The middle of the image, each pixel the mean of the bytes that it covers; then the
    mean and standard deviation of the training images.
    """
    height, width = steps["height"], steps["width"]
    x = pixels.astype(np.int64)
    if len(steps["mean"]) == 1:
        x = x @ [[299], [587], [114]]
        unit = 1000
    else:
        unit = 1
    rows = kept(min(x.shape[0], x.shape[1] * height // width), steps["crop"])
    columns = kept(min(x.shape[1], x.shape[0] * width // height), steps["crop"])
    top, left = (x.shape[0] - rows) // 2, (x.shape[1] - columns) // 2
    x = x[top : top + rows, left : left + columns]
    x, heights = sums(x, height, axis=0)
    x, widths = sums(x, width, axis=1)
    means = x / (heights[:, None, None] * widths[:, None] * unit)
    mean, std = (np.float32(steps[key]) for key in ("mean", "std"))
    return (means.astype(np.float32) * (1 / (255 * std)) - mean / std)[None]


def kept(count, crop):
    return max(1, int(crop * count))


def sums(x, size, axis):
    """Sums of what each of `size` pixels covers along an axis, and their counts."""
    edges = np.arange(size + 1) * x.shape[axis]
    first, last = edges[:-1] // size, -(-edges[1:] // size)
    parts = [np.arange(*ends) for ends in zip(first, last, strict=True)]
    return np.stack([x.take(i, axis).sum(axis) for i in parts], axis), last - first


class Classifier:
    """A file for LiteRT with the JSON that `convert` wrote beside it."""

    def __init__(self, path, threads=4):
        card = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        self.steps, self.labels = card["preprocessing"], card["labels"]
        self.scores = card["scores"]
        if self.steps is not None and "steps" in card["input"]:
            # The file takes pixels from 0 to 255, and normalizes them itself.
            channels = len(self.steps["mean"])
            self.steps |= {"mean": [0.0] * channels, "std": [1 / 255] * channels}
        if card["runtime"] != "litert" or self.steps is None:
            sys.exit(
                f"{path} is no file for LiteRT with preprocessing. Convert a run "
                "again, with --runtime litert."
            )
        self.interpreter = Interpreter(str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()

    def __call__(self, pixels):
        """Probabilities (classes,) of bytes (height, width, 3)."""
        x = prepared(pixels, self.steps)
        if self.input["dtype"] in (np.int8, np.uint8):
            scale, zero = self.input["quantization"]
            ends, x = np.iinfo(self.input["dtype"]), np.rint(x / np.float32(scale))
            x = np.clip(x + zero, ends.min, ends.max).astype(self.input["dtype"])
        self.interpreter.set_tensor(self.input["index"], x)
        self.interpreter.invoke()
        scores = self.interpreter.get_tensor(self.output["index"])[0]
        if self.output["dtype"] in (np.int8, np.uint8):
            scale, zero = self.output["quantization"]
            scores = (scores.astype(np.float32) - zero) * np.float32(scale)
        if self.scores == "logits":
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
        return scores


def main(model, *images):
    classifier = Classifier(model)
    for path in images:
        scores = classifier(np.asarray(Image.open(path).convert("RGB")))
        best = int(scores.argmax())
        label = classifier.labels[best] if classifier.labels else f"class {best}"
        print(f"{path}: {label}, {scores[best]:.1%}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
