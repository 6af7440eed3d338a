"""Training in batches of one, two and four photos, from the first step on.

ReActNet-18 of width 16 on the same 25,600 images of CIFAR-10, one pass, each
normalization by its own recipe but for β₂, 0.999, and the learning rate: the best of
three, chosen with 6,400 of these images and measured on the last 5,000 training images.
Single images also as crops from borders that mirror the image; batches of two also as
pairs of one class, as in class-correlated streams; both at the rates of the others.
The accuracy is that on all test images. What has its log in `--output` is not repeated;
the same command given twice shares the work between two processes, of which the last to
end writes the whole table.

    python benchmarks/small_batches.py --folder runs/small_batches
"""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import accuracy as drawing
from _results import RESULTS, leave
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
    load = nobn.data.load(
        "cifar10", "train", count, limit=count, seed=seed, reflect=mirrored
    )
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


def test_images():
    return nobn.data.load("cifar10", "test", 250)


def accuracy(folder, output, train, kind, normalization, name, rate, seed):
    """In %; None if it is not there, as what another process trains."""
    size, *kinds = STREAMS[name]
    said = name.replace(", ", "_").replace(" ", "_")
    run = folder / f"{kind}-{normalization}-{said}-{rate:g}-{seed}"
    settings = nobn.training.RunSettings.from_recipe(
        normalization=normalization,
        dataset="given",
        width=16,
        epochs=1,
        batch_size=size,
        learning_rate=rate,
        beta_2=0.999,
        seed=seed,
    )

    def data():
        test = held_out if kind == "chosen" else test_images
        return stream(size, *kinds, IMAGES[kind], seed), test()

    found = history(settings, run, output / run.name, train, data)
    if found is None:
        return None
    print(run.name, reached(found), flush=True)
    return reached(found)


def choice(folder, output, train, normalization, size):
    """The accuracy of every learning rate, on held-out images."""
    found = {
        rate: accuracy(
            folder, output, train, "chosen", normalization, str(size), rate, 100
        )
        for rate in RATES[size]
    }
    return {rate: last for rate, last in found.items() if last is not None}


@click.command()
@click.option("--seeds", default="0,1", show_default=True, help="Between commas.")
@click.option("--sizes", default="1,2,4", show_default=True, help="Images a step.")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--train/--no-train", default=True, help="Or only what is finished.")
@click.option(
    "--output", type=Path, default=RESULTS / "small_batches", show_default=True
)
def main(seeds, sizes, folder, train, output):
    sizes, seeds = ([int(each) for each in of.split(",")] for of in (sizes, seeds))
    cells = [(size, name) for size in sizes for name in NORMALIZATIONS]
    choices = {cell: choice(folder, output, train, cell[1], cell[0]) for cell in cells}
    rows = {}
    for seed in seeds:
        for batches, (size, *_) in STREAMS.items():
            for name in NORMALIZATIONS if size in sizes else ():
                known = choices[size, name]
                if len(known) < len(RATES[size]):  # the other process is at it
                    known = choices[size, name] = choice(
                        folder, output, train, name, size
                    )
                if len(known) < len(RATES[size]):
                    continue
                rate = max(known, key=known.get)
                last = accuracy(
                    folder, output, train, "measured", name, batches, rate, seed
                )
                if last is not None:
                    row = rows.setdefault(batches, {}).setdefault(name, {"rate": rate})
                    row.setdefault("reached", []).append(last)
    leave(
        output,
        __doc__,
        drawing.small_batches,
        images=IMAGES,
        held_out=HELD_OUT,
        rows=rows,
        choices={
            str(size): {
                name: {f"{rate:g}": last for rate, last in found.items()}
                for (of, name), found in choices.items()
                if of == size
            }
            for size in sizes
        },
    )


if __name__ == "__main__":
    main()
