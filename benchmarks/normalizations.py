"""What each normalization of ReActNet-18 brings and costs, in one table.

Accuracy on CIFAR-10 after one epoch, and on digits in batches of 64 and of two images,
always with Adam and adaptive gradient clipping, mean over seeds; time and peak memory
of a training step relative to batch norm, measured side by side; float operations of
the converted file beyond those of the network with batch norm; and which fraction of
the channels that meet a binary convolution has one and the same sign in more than 95 %
of all places, so that it carries next to nothing. A run is what `larq-nobn train
--recipe plain` does with the settings below; finished runs in the folder are not
repeated.

    python benchmarks/normalizations.py --folder runs/normalizations
"""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import accuracy as drawing
from _results import leave, output, quartiles, seeds
from _runs import keep_run, reached
from train_step import alternate, make_step, memory_of, with_ratios

NORMALIZATIONS = nobn.models.NORMALIZATIONS
SIZE = (16, 128)  # width and batch of the timed step
PLAIN = ("plain", "float32", {})  # recipe, precision, and what is changed of it
DIGITS = {"dataset": "digits", "width": 32, "blocks": (2, 2)}
TASKS = {
    "CIFAR-10": {"width": 16, "epochs": 1},
    "digits, batch 64": {
        **DIGITS,
        "batch_size": 64,
        "epochs": 5,
        "learning_rate": 3e-3,
    },
    "digits, batch 2": {**DIGITS, "batch_size": 2, "epochs": 2},
}


def folder_of(folder, task, normalization, seed):
    short = task.lower().replace(", ", "-").replace(" ", "-")
    return folder / f"{short}-{normalization}-{seed}"


def accuracy(folder, output, task, normalization, seed):
    """Test accuracy in % of one run, trained unless it is there already."""
    settings = nobn.training.RunSettings(
        "plain", normalization=normalization, seed=seed, **TASKS[task]
    )
    tf.keras.backend.clear_session()
    place = folder_of(folder, task, normalization, seed)
    run = nobn.training.train(settings, place, resume=True)
    keep_run(place, output / place.name)
    print(place.name, reached(run.history), flush=True)
    return reached(run.history)


def stuck_channels(model):
    """Fraction of the channels before binary convolutions that hardly change sign."""
    images, _ = next(iter(nobn.data.load("cifar10", "test", 256)))
    binary = [x for x in model.layers if getattr(x, "input_quantizer", None)]
    maps = tf.keras.Model(model.inputs, [x.input for x in binary])(images)
    pairs = zip(binary, maps, strict=True)
    shares = [np.mean(x.input_quantizer(y) > 0, axis=(0, 1, 2)) for x, y in pairs]
    positive = np.concatenate(shares)
    return float(np.mean(np.maximum(positive, 1 - positive) > 0.95))


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@seeds("0,1,2")
@click.option("--rounds", default=20, show_default=True, help="Timed steps of each.")
@output("normalizations")
def main(folder, seeds, rounds, output):
    rows = {n: {"accuracy": {}} for n in NORMALIZATIONS}
    for task, n in itertools.product(TASKS, NORMALIZATIONS):
        found = [accuracy(folder, output, task, n, seed) for seed in seeds]
        rows[n]["accuracy"][task] = found
    seconds = alternate({n: make_step(*SIZE, n, *PLAIN) for n in rows}, rounds)
    median = {n: statistics.median(times) for n, times in seconds.items()}
    for n, row in rows.items():
        run = folder_of(folder, "CIFAR-10", n, seeds[0])
        model = nobn.training.load_run(run).model
        report = nobn.convert(model, folder / f"{n}.tflite")
        row["float_ops"] = {op["op"]: op["count"] for op in report.float_ops}
        row["stuck_channels"] = round(stuck_channels(model), 3)
        row["ms_quartiles"] = quartiles(seconds[n])
        row["time_ratio"] = round(median[n] / median["batch_norm"], 3)
        row["peak_mb"] = memory_of(*SIZE, n, *PLAIN)["peak_mb"]
    counts = {n: sum(row["float_ops"].values()) for n, row in with_ratios(rows).items()}
    for n, row in rows.items():
        row["extra_float_ops"] = counts[n] - counts["batch_norm"]
    step = {"width": SIZE[0], "batch": SIZE[1], "rounds": rounds}
    leave(output, __doc__, drawing.normalizations, tasks=TASKS, step=step, rows=rows)


if __name__ == "__main__":
    main()
