"""Trained networks in files for LCE and LiteRT, in float32 and int8.

`accuracy`: top-1 of the six trained networks in Keras and in each file, on all test
images, with the size of each file as it is and zipped. The int8 files are not
fine-tuned: their ranges come from 256 training images. Each file is what one command
line writes. The float32 file for LCE, which `convert` compared with Keras, is not
evaluated; its int8 file, which portable kernels run slowly, is on 2,000 test images,
beside Keras on the same. An hour on one core; finished rows are not repeated.

`ranges`: accuracy on training images of `fake_quantize`'s copy in Keras, by the
fraction of each feature map that lies beyond either end of its range.

`latency`: medians of one image at a time and ratios with 95 % intervals, all files of a
network in turns, one thread. LCE's interpreter runs files with its operations,
TensorFlow's with XNNPACK the others, as `larq-nobn benchmark` does.

    python benchmarks/runtimes.py accuracy --folder runs/runtimes
    python benchmarks/runtimes.py ranges
    python benchmarks/runtimes.py latency --folder runs/runtimes  # on a quiet machine
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
import tensorflow as tf
from _drawing import runtimes as drawing
from _results import RESULTS, leave, write
from larq_nobn.deploy.int8 import _fake_quantize

INT8 = ("--int8", "--calibrate", "256")
FORMS = {
    "LCE": (),
    "LCE, int8": INT8,
    "LiteRT": ("--runtime", "litert"),
    "LiteRT, int8": ("--runtime", "litert", *INT8),
}
TRAINED = (
    "reactnet18-w32-digits",
    "reactnet18-w16-cifar10",
    "reactnet18-w32-cifar10",
    "quicknet-small-cifar10",
    "reactnet18-w64-cifar10",
    "reactnet18-w32-cifar100",
)
# Timed besides some trained ones, with random weights: builder, arguments.
LARGE = {
    "ReActNet18, 224 px": ("ReActNet18", {"width": 64}),
    "QuickNet, 224 px": ("QuickNet", {}),
}
TIMED = ("reactnet18-w64-cifar10", "quicknet-small-cifar10")
SEED = 0
RANGED = ("reactnet18-w16-cifar10", "quicknet-small-cifar10")
SLOW_IMAGES = 2000
CLIPPED = (0.0, 1e-5, 1e-4, 1e-3)
TRAINING_IMAGES = 8192


def larq_nobn(*arguments):
    """Runs a command line whose last argument is its JSON; returns that."""
    command = [sys.executable, "-m", "larq_nobn", *map(str, arguments), "--force"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))


def trained_file(folder, name, form, images=()):
    """Converts a trained network by the command line, if that was not done."""
    path = folder / f"{name}-{form.replace(', ', '-')}.tflite"
    if not path.exists():
        report = path.with_suffix(".json")
        larq_nobn("convert", name, path, *FORMS[form], *images, "--json", report)
    return path


def evaluated(folder, model, images):
    report = folder / "evaluate.json"
    measured = larq_nobn("evaluate", model, *images, "--json", report)
    return {key: measured[key] for key in ("examples", "accuracy", "loss")}


def sizes(path):
    content = path.read_bytes()
    return {"bytes": len(content), "zipped_bytes": len(gzip.compress(content))}


def measure_accuracy(folder, name, form, images):
    """Keras or a file on all test images, if that was not done."""
    done = folder / f"{name}.json"
    row = json.loads(done.read_text()) if done.exists() else {}
    if form not in row:
        if form == "Keras":
            row[form] = evaluated(folder, name, images)
        else:
            path = trained_file(folder, name, form, images)
            row[form] = sizes(path)
            dataset = images or ("--dataset", name.rpartition("-")[2])
            if form == "LCE, int8":
                dataset = (*dataset, "--limit", SLOW_IMAGES)
                row[form]["keras"] = evaluated(folder, name, dataset)
            if form != "LCE":
                row[form] |= evaluated(folder, path, dataset)
        write(row, done)
        print(name, form, row[form], flush=True)
    return row


def large_file(folder, name, form):
    """Converts a network with random weights, moved off where they start."""
    path = folder / f"{name.replace(', ', '-').replace(' ', '')}-{form}.tflite"
    if path.exists():
        return path
    builder, arguments = LARGE[name]
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(SEED)
    model = getattr(nobn.models, builder)((224, 224, 3), 1000, **arguments)
    random = np.random.default_rng(SEED)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(weight + random.uniform(0.05, 0.2, weight.shape))
    images = random.normal(size=(4, 224, 224, 3)).astype(np.float32)
    int8 = form.endswith("int8")
    if int8:
        model = nobn.deploy.fake_quantize(model, images, verify=False)
    runtime = "litert" if form.startswith("LiteRT") else "lce"
    nobn.convert(model, path, verify=False, int8=int8, runtime=runtime)
    return path


@click.group()
def main():
    """Trained networks in files for LCE and LiteRT."""


@main.command()
@click.option("--folder", type=Path, required=True, help="Where the files go.")
@click.option("--only", multiple=True, type=click.Choice(TRAINED))
@click.option(
    "--cifar100",
    type=click.Path(exists=True, path_type=Path),
    help="CIFAR-100 as an image folder, where TFDS cannot download it.",
)
@click.option("--output", type=Path, default=RESULTS / "runtimes", show_default=True)
def accuracy(folder, only, cifar100, output):
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for form in ("Keras", "LiteRT, int8", "LCE", "LiteRT", "LCE, int8"):
        for name in only or TRAINED:
            images = ("--dataset", cifar100) if cifar100 and "cifar100" in name else ()
            rows[name] = measure_accuracy(folder, name, form, images)
    result = {"ranges_from_training_images": 256, "rows": rows}
    leave(output / "accuracy", __doc__, drawing.accuracies, **result)


@main.command()
@click.option("--images", default=TRAINING_IMAGES, show_default=True)
@click.option("--output", type=Path, default=RESULTS / "runtimes", show_default=True)
def ranges(images, output):
    how = {"augment": False, "shuffle": False}
    seen, *_ = nobn.data.load("cifar10", "train", batch_size=256, **how)
    batches = nobn.data.load("cifar10", "train", batch_size=256, limit=images, **how)
    rows = {}
    for name in RANGED:
        model, _ = nobn.models.open_pretrained(name)
        rows[name] = {"float": accuracy_on(model, batches)}
        for fraction in CLIPPED:
            _fake_quantize._CLIPPED = fraction
            quantized = nobn.deploy.fake_quantize(model, seen[0], verify=False)
            rows[name][f"{fraction:g}"] = accuracy_on(quantized, batches)
        print(name, rows[name], flush=True)
    result = {"training_images": images, "rows": rows}
    leave(output / "ranges", __doc__, drawing.ranges, **result)


def accuracy_on(model, batches):
    return nobn.training.evaluate(model, batches)["accuracy"]


@main.command()
@click.option("--folder", type=Path, required=True, help="Where the files go.")
@click.option("--runs", default=30, show_default=True)
@click.option("--output", type=Path, default=RESULTS / "runtimes", show_default=True)
def latency(folder, runs, output):
    folder.mkdir(parents=True, exist_ok=True)
    networks = {name: trained_file for name in TIMED}
    networks |= {name: large_file for name in LARGE}
    files = {
        name: [made(folder, name, form) for form in FORMS]
        for name, made in networks.items()
    }
    rows = {}
    for name, (first, *others) in files.items():
        timings = nobn.benchmark(first, others, runs=runs, seed=SEED).timings
        rows[name] = {
            form: {
                "ms": round(timing.ms, 3),
                "quartiles_ms": [round(timing.low_ms, 3), round(timing.high_ms, 3)],
                "ratio": round(timing.ratio, 3),
                "interval": [round(timing.ratio_low, 3), round(timing.ratio_high, 3)],
            }
            for form, timing in zip(FORMS, timings, strict=True)
        }
        print(name, {form: row["ms"] for form, row in rows[name].items()}, flush=True)
    measured = {"seed": SEED, "threads": 1, "runs": runs, "rows": rows}
    engine = "larq_compute_engine"
    leave(output / "latency", __doc__, drawing.latencies, engine, **measured)


if __name__ == "__main__":
    main()
