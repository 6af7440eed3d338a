"""Training in batches of one, two and four photos, from the first step on.

ReActNet-18 of width 16 on the same 25,600 images of CIFAR-10, one pass, each
normalization by its own recipe but for β₂, 0.999, and the learning rate: the best of
three, chosen with 6,400 of these images and measured on the last 5,000 training images.
Single images also as crops from borders that mirror the image; batches of two also as
pairs of one class, as in class-correlated streams; both at the rates of the others.
The accuracy is that on all test images. What has its log in `--output` is not repeated.

    python benchmarks/small_batches.py --folder runs/small_batches
"""

from __future__ import annotations

import itertools
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import accuracy as drawing
from _results import leave, output, seeds
from _runs import history, reached

NORMALIZATIONS = ("nobn", "batch_norm", "group", "filter_response", "kalman")
RATES = {1: (3e-4, 1e-4, 1e-3), 2: (3e-4, 1e-4, 1e-3), 4: (1e-3, 3e-4, 3e-3)}
# Name of a stream: images a step; and whether those are of one class, and crops reach
# into borders that mirror the image and are not black.
STREAMS = {
    "1": (1, False, False),
    "1, mirrored": (1, False, True),
    "2": (2, False, False),
    "2, one class": (2, True, False),
    "4": (4, False, False),
}
IMAGES = {"chosen": 6_400, "measured": 25_600}
HELD_OUT = 5_000


def stream(size, one_class, mirrored, count, seed):
    """So many augmented training images, the first of each class, in small batches."""
    how = {"limit": count, "seed": seed, "reflect": mirrored}
    load = nobn.data.load("cifar10", "train", count, **how)
    images, labels = (part.numpy() for part in next(iter(load)))
    if one_class:
        order = np.argsort(labels, kind="stable").reshape(-1, size)
        order = np.random.default_rng(seed).permutation(order).ravel()
        images, labels = images[order], labels[order]
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


def held_out():
    """Training images that are none of the first of each class."""
    load = nobn.data.load("cifar10", "train", 50_000, augment=False, shuffle=False)
    images, labels = next(iter(load))
    of_rest = images[-HELD_OUT:], labels[-HELD_OUT:]
    return tf.data.Dataset.from_tensor_slices(of_rest).batch(250)


def accuracy(folder, output, kind, normalization, name, rate, seed):
    """In %, of one training."""
    size, *kinds = STREAMS[name]
    said = name.replace(", ", "_").replace(" ", "_")
    run = folder / f"{kind}-{normalization}-{said}-{rate:g}-{seed}"
    chosen = {"normalization": normalization, "dataset": "given", "seed": seed}
    chosen |= {"batch_size": size, "learning_rate": rate, "beta_2": 0.999}
    settings = nobn.training.RunSettings.from_recipe(width=16, epochs=1, **chosen)

    def data():
        test = nobn.data.load("cifar10", "test", 250)
        test = held_out() if kind == "chosen" else test
        return stream(size, *kinds, IMAGES[kind], seed), test

    found = reached(history(settings, run, output / run.name, data))
    print(run.name, found, flush=True)
    return found


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@seeds()
@output("small_batches")
def main(folder, seeds, output):
    choices = {
        str(size): {
            n: {
                f"{r:g}": accuracy(folder, output, "chosen", n, str(size), r, 100)
                for r in rates
            }
            for n in NORMALIZATIONS
        }
        for size, rates in RATES.items()
    }
    rows = {}
    for (name, (size, *_)), n in itertools.product(STREAMS.items(), NORMALIZATIONS):
        tried = choices[str(size)][n]
        rate = float(max(tried, key=tried.get))
        cell = "measured", n, name, rate
        found = [accuracy(folder, output, *cell, seed) for seed in seeds]
        rows.setdefault(name, {})[n] = {"rate": rate, "reached": found}
    sets = {"images": IMAGES, "held_out": HELD_OUT}
    leave(output, __doc__, drawing.small_batches, **sets, rows=rows, choices=choices)


if __name__ == "__main__":
    main()
