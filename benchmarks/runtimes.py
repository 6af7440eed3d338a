"""Trained networks in files for LCE and LiteRT, in float32 and int8.

`accuracy`: top-1 of the six trained networks in Keras and in each file, on all test
images, with the size of each file as it is and zipped. The int8 files are not
fine-tuned: their ranges come from 256 training images. Each file is what one command
line writes. The float32 file for LCE, which `convert` compared with Keras, is not
evaluated; its int8 file, which portable kernels run slowly, is on 2,000 test images,
beside Keras on the same. An hour on one core; finished rows are not repeated.

`latency`: medians of one image at a time and ratios with 95 % intervals, all files of a
network in turns, one thread. LCE's interpreter runs files with its operations,
TensorFlow's with XNNPACK the others, as `larq-nobn benchmark` does.

    python benchmarks/runtimes.py accuracy --folder runs/runtimes
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
from _drawing import runtimes as drawing
from _files import SEED, network, timed
from _results import kept, leave, output

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
SLOW_IMAGES = 2000


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


def measure(folder, name, form, images):
    """Keras or a file on all test images."""
    if form == "Keras":
        return evaluated(folder, name, images)
    path = trained_file(folder, name, form, images)
    found = sizes(path)
    dataset = images or ("--dataset", name.rpartition("-")[2])
    if form == "LCE, int8":
        dataset = (*dataset, "--limit", SLOW_IMAGES)
        found["keras"] = evaluated(folder, name, dataset)
    return found if form == "LCE" else found | evaluated(folder, path, dataset)


def large_file(folder, name, form):
    """Converts a network with random weights, if that was not done."""
    path = folder / f"{name.replace(', ', '-').replace(' ', '')}-{form}.tflite"
    if path.exists():
        return path
    builder, arguments = LARGE[name]
    model = network(builder, 224, 1000, **arguments)
    int8 = form.endswith("int8")
    if int8:
        images = np.random.default_rng(SEED).normal(size=(4, 224, 224, 3))
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
@output("runtimes")
def accuracy(folder, only, cifar100, output):
    folder.mkdir(parents=True, exist_ok=True)
    rows = {name: {} for name in only or TRAINED}
    for form in ("Keras", "LiteRT, int8", "LCE", "LiteRT", "LCE, int8"):
        for name, row in rows.items():
            images = ("--dataset", cifar100) if cifar100 and "cifar100" in name else ()
            done = folder / f"{name}-{form}.measured.json"
            row[form] = kept(done, measure, folder, name, form, images)
            print(name, form, row[form], flush=True)
    result = {"ranges_from_training_images": 256, "rows": rows}
    leave(output / "accuracy", __doc__, drawing.runtime_accuracies, **result)


@main.command()
@click.option("--folder", type=Path, required=True, help="Where the files go.")
@click.option("--runs", default=30, show_default=True)
@output("runtimes")
def latency(folder, runs, output):
    folder.mkdir(parents=True, exist_ok=True)
    made = dict.fromkeys(TIMED, trained_file) | dict.fromkeys(LARGE, large_file)
    rows = {}
    for name, make in made.items():
        files = {form: make(folder, name, form) for form in FORMS}
        rows[name] = timed(files, runs)
        print(name, {form: row["ms"] for form, row in rows[name].items()}, flush=True)
    measured = {"seed": SEED, "threads": 1, "runs": runs, "rows": rows}
    engine = "larq_compute_engine"
    leave(output / "latency", __doc__, drawing.runtime_latencies, engine, **measured)


if __name__ == "__main__":
    main()
