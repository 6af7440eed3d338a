"""Fine-tuning on some hundred images: what the recipe `fine_tune` should be.

Three sets whose classes CIFAR-100 has not, which the starting network was trained on:
41 images of each of five classes of CIFAR-10, scaled to sides of 64 to 288 pixels and
saved as JPEG or PNG, and two of Tiny ImageNet: 50 of each of six things, and 40 of each
of eight kinds of dogs, cats and cars. `search` takes the size of pre-training, changes
one setting at a time, and measures each on 100 other images of each class. `test`
compares recipes on 100 images of each class that were never read before. `--folder`
gets the sets and the runs; a run whose log is kept is not repeated.

    python benchmarks/fine_tuning.py search --tiny tiny-imagenet-200/train \
        --folder runs/fine_tuning --seeds 100
    python benchmarks/fine_tuning.py test --tiny tiny-imagenet-200/train \
        --folder runs/fine_tuning --seeds 0,1,2
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _drawing.accuracy import fine_tuning as drawing
from _results import command, machine, output, say, seeds
from _runs import history
from PIL import Image

START = "reactnet18-w32-cifar100"
OTHERS = 100  # images of each class to choose by, and as many to test
CIFAR10 = ("airplane", "bird", "cat", "ship", "truck")
# Classes of Tiny ImageNet, and images of each to train with.
THINGS = {
    "pizza": "n07873807",
    "banana": "n07753592",
    "backpack": "n02769748",
    "fountain": "n03388043",
    "kimono": "n03617480",
    "spider web": "n04275548",
}
KINDS = {
    "German shepherd": "n02106662",
    "golden retriever": "n02099601",
    "tabby": "n02123045",
    "Egyptian cat": "n02124075",
    "convertible": "n03100240",
    "sports car": "n04285008",
    "go-kart": "n03444034",
    "beach wagon": "n02814533",
}
COUNTS = {"cifar10": 41, "things": 50, "kinds": 40}
# The recipe until now, with the size and the epochs of the guide, and what is tried.
EARLIER = {
    **{"batch_size": 32, "learning_rate": 1e-2, "backbone_multiplier": 0.3},
    **{"clip_factor": 0.02, "epochs": 20, "image_size": 64},
}
SMALL = {**EARLIER, "image_size": 32, "epochs": 10}
SEARCHED = {
    "small": SMALL,
    "multiplier 0.1": {**SMALL, "backbone_multiplier": 0.1},
    "random resized crops": {**SMALL, "augment": "random_resized_crop"},
    "multiplier 0.03": {**SMALL, "backbone_multiplier": 0.03},
    "earlier": EARLIER,
    "rate 0.003": {**SMALL, "learning_rate": 3e-3},
    "smoothed labels": {**SMALL, "label_smoothing": 0.1},
    "averages": {**SMALL, "ema": 0.95},
    "multiplier 0": {**SMALL, "backbone_multiplier": 0},
    "20 epochs": {**SMALL, "epochs": 20},
    "strong": {**SMALL, "augment": "strong"},
    "mixup": {**SMALL, "mixup": 0.2},
    "multiplier 1": {**SMALL, "backbone_multiplier": 1.0},
}


def images_of(name, tiny):
    """Yields the name and the images of each class, in an order that is drawn once."""
    random = np.random.default_rng(0)
    count = COUNTS[name] + 2 * OTHERS
    if name != "cifar10":
        for label, code in (THINGS if name == "things" else KINDS).items():
            files = sorted((tiny / code / "images").iterdir())
            files = [files[n] for n in random.choice(len(files), count, replace=False)]
            yield label, [Image.open(file).convert("RGB") for file in files]
        return
    data = nobn.data.open_dataset("cifar10")
    labels = data.labels("train")
    for label in CIFAR10:
        at = np.flatnonzero(labels == data.info.class_names.index(label))
        images = map(Image.fromarray, data.read(at[:count], "train"))
        sides = random.integers(64, 289, (count, 2)).tolist()
        yield label, [x.resize(size) for x, size in zip(images, sides, strict=True)]


def folder_of(name, split, tiny, folder):
    """A folder of images with train/ and test/; it is made if it is missing."""
    made = folder / "sets" / f"{name}-{split}"
    if not made.exists():
        scratch = made.with_name(f"{made.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        first = COUNTS[name] + OTHERS * (split == "test")
        parts = {"train": (0, COUNTS[name]), "test": (first, first + OTHERS)}
        for label, images in images_of(name, tiny):
            for part, (start, end) in parts.items():
                (place := scratch / part / label).mkdir(parents=True)
                for n, image in enumerate(images[start:end]):
                    image.save(place / f"{n}.{'png' if n % 2 else 'jpg'}")
        scratch.rename(made)
    return made


@click.command()
@click.argument("split", type=click.Choice(("search", "test")))
@click.option("--tiny", type=Path, required=True, help="Folder of Tiny ImageNet.")
@click.option("--folder", type=Path, required=True, help="Where sets and runs go.")
@click.option("--only", default="", help="Candidates whose name starts so.")
@seeds("0,1,2")
@output("fine_tuning")
def main(split, tiny, folder, only, seeds, output):
    kept = output / split
    tried = {n: each for n, each in SEARCHED.items() if n.startswith(only)}
    for (label, candidate), seed, name in itertools.product(
        tried.items(), seeds, COUNTS
    ):
        images = folder_of(name, split, tiny, folder)
        settings = nobn.training.RunSettings.from_recipe(
            "fine_tune", init=START, seed=seed, dataset=str(images), **candidate
        )
        run = f"{label.replace(' ', '_')}-{name}-{seed}"
        rows = history(settings, folder / split / run, kept / run)
        print(run, *(f"{100 * row['val_accuracy']:.1f}" for row in rows), flush=True)
    text = (kept / "runs.json").read_text(encoding="utf-8")
    say(command(), __doc__.splitlines()[0], machine(), tables=drawing(json.loads(text)))


if __name__ == "__main__":
    main()
