"""Ordinary networks beside a binary one: float32 and int8 of its size and latency.

`train`: ResNet-18 with batch norm and real-valued weights on CIFAR-10, of widths whose
float32 or int8 file is as large as that of the binary ReActNet-18 of width 16, or whose
int8 file takes about as long on x86 as that one's int8 file for LiteRT, with the same
epochs, batches, augmentation and clipping. The learning rate is the best of three after
two epochs of width 8 on a tenth of the training images. TensorFlow's converter writes
each network in float32 and, with ranges from 256 training images and without training
for them, in int8. A network whose numbers are in the folder is not repeated.

`latency`: one image at a time and one thread, all files in turns, with two files of the
trained binary network of width 16.

    python benchmarks/ordinary.py train --folder runs/ordinary
    python benchmarks/ordinary.py latency --folder runs/ordinary  # on a quiet machine
"""

from __future__ import annotations

import itertools
from pathlib import Path

import larq_nobn as nobn
import click
import tensorflow as tf
from _drawing import accuracy as drawing
from _files import ordinary_file, timed
from _results import kept, leave, output, seeds
from runtimes import sizes, trained_file

RATES = (1e-3, 3e-3, 1e-2)
CHOOSING = {"width": 8, "epochs": 2, "validation": 0.1, "seed": 100}
# Width and epochs.
CELLS = ((4, 5), (8, 5), (16, 5))
BINARY = "reactnet18-w16-cifar10"
FORMS = ("float32", "int8")
AS_GIVEN = {"augment": False, "shuffle": False}


def train(cell, **chosen):
    tf.keras.backend.clear_session()
    chosen |= {"model": "FloatResNet", "normalization": "batch_norm", "reflect": True}
    settings = nobn.training.RunSettings.from_recipe("plain", **chosen)
    return nobn.training.train(settings, cell, resume=True)


def scores(path):
    """Of a file, on all test images."""
    test = nobn.data.load("cifar10", "test", 256, **AS_GIVEN)
    found = nobn.training.evaluate(nobn.deploy.Runner(path), test)
    return {
        "accuracy": round(100 * found["accuracy"], 2),
        "loss": round(found["loss"], 4),
        "calibration_error": round(100 * found["calibration_error"], 2),
    }


def chosen_rate(folder, rate):
    """The accuracy in % that a learning rate reaches on the validation split."""
    run = train(folder / f"rate-{rate:g}", learning_rate=rate, **CHOOSING)
    return round(100 * run.history[-1]["test_accuracy"], 2)


def measure(folder, name, settings):
    """The files of one network."""
    run = train(folder / name, **settings)
    row = {"parameters": run.model.count_params()}
    (calibration, _), *_ = nobn.data.load("cifar10", "train", 256, **AS_GIVEN)
    for form in FORMS:
        path = folder / f"{name}-{form}.tflite"
        ordinary_file(run.model, path, calibration if form == "int8" else None)
        row[form] = {**sizes(path), **scores(path)}
    return row


@click.group()
def main():
    """Ordinary networks beside a binary one."""


@main.command("train")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@seeds()
@output("ordinary")
def train_all(folder, seeds, output):
    rates = {
        f"{rate:g}": kept(folder / f"rate-{rate:g}.json", chosen_rate, folder, rate)
        for rate in RATES
    }
    best = {"learning_rate": float(max(rates, key=rates.get))}
    rows = {}
    for seed, (width, epochs) in itertools.product(seeds, CELLS):
        name = f"{width}-{epochs}-{seed}"
        settings = {"width": width, "epochs": epochs, "seed": seed, **best}
        file = folder / f"{name}.json"
        rows[name] = kept(file, measure, folder, name, settings)
    result = {"choosing": CHOOSING, "rates": rates, "rows": rows}
    leave(output / "accuracy", __doc__, drawing.ordinary, **result)


@main.command()
@click.option("--folder", type=Path, required=True, help="Where the runs are.")
@click.option("--runs", default=100, show_default=True)
@output("ordinary")
def latency(folder, runs, output):
    files = {
        f"{BINARY}, {form}": trained_file(folder, BINARY, form)
        for form in ("LCE", "LiteRT, int8")
    }
    for (width, epochs), form in itertools.product(CELLS, FORMS):
        path = folder / f"{width}-{epochs}-0-{form}.tflite"
        files[f"ResNet-18, width {width}, {form}"] = path
    rows = {
        name: {"bytes": files[name].stat().st_size, **timing}
        for name, timing in timed(files, runs).items()
    }
    engine = "larq_compute_engine"
    measured = {"runs": runs, "threads": 1, "rows": rows}
    leave(output / "latency", __doc__, drawing.ordinary_latency, engine, **measured)


if __name__ == "__main__":
    main()
