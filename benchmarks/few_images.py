"""Few images: trained from scratch without and with batch norm, and fine-tuned.

Subsets of CIFAR-10, CIFAR-100 and Tiny ImageNet: six classes, drawn once, of 48 or 333
images of 32x32 pixels. From scratch: ReActNet of width 8 with a block in each of four
stages, 15 epochs by the recipe small. Each normalization has the learning rate and the
factor of initial latent weights that are best, of six pairs, on 50 other images of each
class of the first set, 48 of which train, for seed 100. Fine-tuned: what the command
line does with a folder of so few images, for 20 epochs, from two trained networks on
the sets that they were not trained on, the larger one with 48 images alone. Test
images, 100 of each class, are others again and are read once.
Runs of one normalization share a traced training step, whose weights are those of a new
network each time. A run whose numbers are in `--output` is not repeated.

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
from _results import RESULTS, leave

keras = tf.keras
CLASSES, CHOOSE, TEST = 6, 50, 100
SIZES = (48, 333)
EPOCHS = 15
NETWORK = {"width": 8, "blocks": (1, 1, 1, 1), "epochs": EPOCHS}
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
def images_of(name, folder, size):
    """(images, labels) to train, choose and test with."""
    random = np.random.default_rng(0)
    total = size + CHOOSE + TEST
    draw = of_cifar10(total, random) if name == "cifar10" else None
    found = list(draw or of_folder(folder, total, random))
    edges = {"train": (0, size), "choose": (size, size + CHOOSE)}
    edges["test"] = (size + CHOOSE, total)
    return {
        split: (
            np.concatenate([images[first:last] for images in found]),
            np.repeat(np.arange(CLASSES), last - first),
        )
        for split, (first, last) in edges.items()
    }


class Linear(keras.optimizers.schedules.LearningRateSchedule):
    """Falls linearly from a rate to 0; both can change without another trace."""

    def __init__(self):
        self.rate, self.steps = tf.Variable(0.0), tf.Variable(1.0)

    def __call__(self, step):
        return self.rate * tf.maximum(0.0, 1 - tf.cast(step, tf.float32) / self.steps)


class Method:
    """Trains with one normalization as often as asked, by one traced step."""

    def __init__(self, normalization):
        self._normalization = normalization
        self._model, self._rate = None, Linear()

    def train(self, images, tested, seed, rate, factor):
        """Loss and accuracy of each epoch, and accuracy on the tested images, in %."""
        settings = nobn.training.RunSettings.from_recipe(
            "small",
            normalization=self._normalization,
            dataset="given",
            seed=seed,
            learning_rate=rate,
            latent_scale=factor,
            **NETWORK,
        )
        with tempfile.TemporaryDirectory() as folder:
            new = nobn.training.Trainer(
                settings, (images["train"], images[tested]), output=folder
            )
            network = new.build()
        if self._model is None:
            self._model = new.model
            optimizer = nobn.training._network.optimizer_for(
                settings, self._rate, network
            )
            nobn.training._network.compile_network(self._model, optimizer)
        else:
            self._model.set_weights(new.model.get_weights())
        for variable in self._model.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        batches = new._batches("train")
        self._rate.rate.assign(settings.learning_rate)
        self._rate.steps.assign(settings.epochs * len(batches))
        done = self._model.fit(
            batches.repeat(),
            steps_per_epoch=len(batches),
            epochs=settings.epochs,
            verbose=0,
        )
        scores = nobn.training.evaluate(self._model, new._batches("test"))
        return numbers(done.history["loss"], done.history["accuracy"], scores)


def fine_tune(images, start, seed):
    """As `Method.train`, from a trained network."""
    keras.backend.clear_session()
    settings = nobn.training.RunSettings.from_recipe(
        "fine_tune", init=start, epochs=20, seed=seed
    )
    data = nobn.data.Dataset.from_data((images["train"], images["test"]))
    with tempfile.TemporaryDirectory() as folder:
        run = nobn.training.train(settings, folder, data=data)
    scores = nobn.training.evaluate(run.model, data.batches("test", 128))
    losses, accuracies = (
        [row[name] for row in run.history] for name in ("loss", "accuracy")
    )
    return numbers(losses, accuracies, scores)


def numbers(losses, accuracies, scores):
    return {
        "loss": [round(each, 4) for each in losses],
        "accuracy": [round(100 * each, 1) for each in accuracies],
        "tested": round(100 * scores["accuracy"], 2),
        "tested_loss": round(scores["loss"], 4),
        "calibration_error": round(100 * scores["calibration_error"], 2),
    }


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
@click.option("--seeds", default="0,1,2", show_default=True, help="Between commas.")
@click.option("--output", type=Path, default=RESULTS / "few_images", show_default=True)
def main(cifar100, tiny, seeds, output):
    sources = {"cifar100": cifar100, "tiny_imagenet": tiny, "cifar10": None}
    kept = output / "result.json"
    runs = json.loads(kept.read_text("utf-8"))["runs"] if kept.exists() else {}
    methods = {name: Method(name) for name in METHODS}

    def save():
        leave(
            output,
            __doc__,
            drawing.few_images,
            images={"train": SIZES, "choose": CHOOSE, "test": TEST},
            choices=choices(runs),
            runs=runs,
        )

    def run(of, train, images, size, *how):
        if of not in runs:
            runs[of] = train(images_of(images, sources[images], size), *how)
            save()

    for name, candidate in itertools.product(METHODS, CANDIDATES):
        of = key(name, SETS[0], SIZES[0], *candidate, CHOSEN)
        how = ("choose", CHOSEN, *candidate)
        run(of, methods[name].train, SETS[0], SIZES[0], *how)
    for size, seed in itertools.product(SIZES, map(int, seeds.split(","))):
        for name, images in itertools.product(METHODS, SETS):
            found = choices(runs)[name]
            pair = [float(each) for each in max(found, key=found.get).split(", ")]
            of = key(name, images, size, *pair, seed)
            run(of, methods[name].train, images, size, "test", seed, *pair)
        for start, (sets, sizes) in STARTS.items():
            for images in sets if size in sizes else ():
                of = f"{start}, {images}, {size}, {seed}"
                run(of, fine_tune, images, size, start, seed)
    save()


if __name__ == "__main__":
    main()
