"""Few images: trained from scratch without and with batch norm, and fine-tuned.

Subsets of CIFAR-10, CIFAR-100 and Tiny ImageNet: six classes, drawn once, of 48 or 333
images of 32x32 pixels. From scratch: ReActNet of width 8 with a block in each of four
stages, 15 epochs by the recipe small. Each normalization has the learning rate and the
factor of initial latent weights that are best, of six pairs, on 50 other images of each
class of the first set, 48 of which train, for seed 100. Fine-tuned: what the command
line does with a folder of so few images, for 20 epochs, from two trained networks on
the sets that they were not trained on, the larger one with 48 images alone. Test
images, 100 of each class, are others again and are read once. A run whose numbers are
in `--output` is not repeated.

CIFAR-100 and Tiny ImageNet are folders of images, with train/CLASS in each; `cifar10`
is that of the package.

    python benchmarks/few_images.py --cifar100 CIFAR100 --tiny TINY
"""

from __future__ import annotations

import itertools
import json
import tempfile
from functools import cache
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import accuracy as drawing
from _results import leave, output, seeds

CLASSES, CHOOSE, TEST = 6, 50, 100
SIZES = (48, 333)
NETWORK = {"width": 8, "blocks": (1, 1, 1, 1), "epochs": 15}
METHODS = ("nobn", "batch_norm")
SETS = ("cifar100", "tiny_imagenet", "cifar10")
# Learning rates and factors of the initial latent weights, one pair of which is chosen.
CANDIDATES = tuple(itertools.product((1e-3, 3e-3, 1e-2), (1.0, 30.0)))
CHOSEN = 100  # the seed
# Sets and sizes of those that are fine-tuned.
STARTS = {
    "reactnet18-w16-cifar10": (SETS[:2], SIZES),
    "reactnet18-w32-cifar100": (SETS[1:], SIZES[:1]),
}


def of_cifar10(count, random):
    """The first images of classes that are drawn, in the order of the data set."""
    images = nobn.data.open_dataset("cifar10")
    labels = images.labels("train")
    for name in sorted(random.choice(10, CLASSES, replace=False)):
        yield images.read(np.flatnonzero(labels == name)[:count], "train")


def of_folder(folder, count, random):
    """Images of classes that are drawn."""
    known = sorted(path for path in (folder / "train").iterdir() if path.is_dir())
    for place in sorted(random.choice(len(known), CLASSES, replace=False)):
        files = sorted(known[place].rglob("*.*"))
        files = [file for file in files if file.suffix in (".png", ".JPEG")]
        chosen = random.choice(len(files), count, replace=False)
        yield np.stack([pixels(files[n]) for n in chosen])


def pixels(file):
    """A square image as bytes, (32, 32, 3)."""
    image = tf.io.decode_image(file.read_bytes(), 3, expand_animations=False)
    resized = tf.image.resize(image, (32, 32), "area")
    return tf.cast(tf.round(resized), tf.uint8).numpy()


@cache
def images_of(folder, size):
    """(images, labels) to train, choose and test with; CIFAR-10 has no folder."""
    random = np.random.default_rng(0)
    ends = (0, size, size + CHOOSE, size + CHOOSE + TEST)
    given = (ends[-1], random)
    found = list(of_folder(folder, *given) if folder else of_cifar10(*given))
    return {
        split: (
            np.concatenate([images[first:last] for images in found]),
            np.repeat(np.arange(CLASSES), last - first),
        )
        for split, (first, last) in zip(
            ("train", "choose", "test"), itertools.pairwise(ends), strict=True
        )
    }


def train(images, tested, settings):
    """Loss and accuracy of each epoch, and what is reached on the tested images."""
    tf.keras.backend.clear_session()
    data = nobn.data.Dataset.from_data((images["train"], images[tested]))
    with tempfile.TemporaryDirectory() as folder:
        run = nobn.training.train(settings, folder, data=data)
    scores = nobn.training.evaluate(run.model, data.batches("test", 128))
    return {
        "loss": [round(row["loss"], 4) for row in run.history],
        "accuracy": [round(100 * row["accuracy"], 1) for row in run.history],
        "tested": round(100 * scores["accuracy"], 2),
        "tested_loss": round(scores["loss"], 4),
        "calibration_error": round(100 * scores["calibration_error"], 2),
    }


def from_scratch(normalization, rate, factor, seed):
    chosen = {"normalization": normalization, "dataset": "given", "seed": seed}
    chosen |= {"learning_rate": rate, "latent_scale": factor, **NETWORK}
    return nobn.training.RunSettings.from_recipe("small", **chosen)


def choices(runs):
    """Accuracy in % by candidate, of each method."""
    return {
        name: {
            f"{rate:g}, {factor:g}": runs[of]["tested"]
            for rate, factor in CANDIDATES
            if (of := key(name, SETS[0], SIZES[0], rate, factor, CHOSEN)) in runs
        }
        for name in METHODS
    }


def key(name, images, size, rate, factor, seed):
    return f"{name}, {images}, {size}, {rate:g}, {factor:g}, {seed}"


@click.command()
@click.option("--cifar100", type=Path, required=True, help="Folder of CIFAR-100.")
@click.option("--tiny", type=Path, required=True, help="Folder of Tiny ImageNet.")
@seeds("0,1,2")
@output("few_images")
def main(cifar100, tiny, seeds, output):
    sources = {"cifar100": cifar100, "tiny_imagenet": tiny, "cifar10": None}
    before = output / "result.json"
    runs = json.loads(before.read_text("utf-8"))["runs"] if before.exists() else {}

    def run(of, images, size, settings, tested="test"):
        if of not in runs:
            runs[of] = train(images_of(sources[images], size), tested, settings)
        sets = {"train": SIZES, "choose": CHOOSE, "test": TEST}
        found = {"images": sets, "choices": choices(runs), "runs": runs}
        leave(output, __doc__, drawing.few_images, **found)

    for name, pair in itertools.product(METHODS, CANDIDATES):
        of = key(name, SETS[0], SIZES[0], *pair, CHOSEN)
        run(of, SETS[0], SIZES[0], from_scratch(name, *pair, CHOSEN), "choose")
    for size, seed in itertools.product(SIZES, seeds):
        for name, images in itertools.product(METHODS, SETS):
            found = choices(runs)[name]
            pair = [float(each) for each in max(found, key=found.get).split(", ")]
            of = key(name, images, size, *pair, seed)
            run(of, images, size, from_scratch(name, *pair, seed))
        for start, (sets, sizes) in STARTS.items():
            for images in sets if size in sizes else ():
                settings = nobn.training.RunSettings.from_recipe(
                    "fine_tune", init=start, epochs=20, seed=seed
                )
                run(f"{start}, {images}, {size}, {seed}", images, size, settings)


if __name__ == "__main__":
    main()
