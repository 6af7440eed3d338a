"""Trained networks in files for LCE and LiteRT, in float32 and int8.

`accuracy`: top-1 of the six trained networks in Keras and in each file, on all test
images, with the size of each file as it is and zipped. The int8 files are not
fine-tuned: their ranges come from 256 training images. Each file is what one command
line writes. The float32 file for LCE, which `convert` compared with Keras, is not
evaluated; its int8 file, which portable kernels run slowly, is on 2,000 test images,
beside Keras on the same. An hour on one core; finished rows are not repeated.

`latency`: medians of one image at a time and ratios with 95 % intervals, all files of a
network in turns, one thread: also C, compiled for this processor, and ordinary int8
networks of the same shape and of half its width, with random weights. LCE's interpreter
runs files with its operations, TensorFlow's with XNNPACK other TFLite files, as
`larq-nobn benchmark` does. The files are made for their times alone, not verified and
with ranges of random images. The log says how many other processes were running.

    python benchmarks/runtimes.py accuracy --folder runs/runtimes
    python benchmarks/runtimes.py accuracy --folder runs/c --form Keras --form C \
        --output results/c
    python benchmarks/runtimes.py accuracy --folder runs/micro --output results/micro \
        --form "LiteRT, int8" --form Micro --only reactnet18-w32-digits \
        --only reactnet18-w16-cifar10
    python benchmarks/runtimes.py latency --folder runs/latency   # on a quiet machine
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _drawing import runtimes as drawing
from _files import SEED, network, ordinary_file, timed
from _results import instructions, kept, leave, output
from larq_nobn.models._float_resnet import float_resnet
from larq_nobn.models._pretrained import open_pretrained

INT8 = ("--int8", "--calibrate", "256")
FORMS = {
    "LCE": (),
    "LCE, int8": INT8,
    "LiteRT": ("--runtime", "litert"),
    "LiteRT, int8": ("--runtime", "litert", *INT8),
    "C": (),
    "Micro": ("--runtime", "micro", "--calibrate", "256"),
}
TRAINED = (
    "reactnet18-w32-digits",
    "reactnet18-w16-cifar10",
    "reactnet18-w32-cifar10",
    "quicknet-small-cifar10",
    "reactnet18-w64-cifar10",
    "reactnet18-w32-cifar100",
)
# Timed besides the trained ones, with random weights: builder, arguments.
LARGE = {
    "ReActNet18, 224 px": ("ReActNet18", {"width": 64}),
    "QuickNet, 224 px": ("QuickNet", {}),
}
TIMED = (*(form for form in FORMS if form != "Micro"), "C, small")
# Ordinary int8 networks beside ReActNet-18, by how many times narrower they are.
ORDINARY = {"ordinary, int8": 1, "ordinary, int8, half width": 2}
SLOW_IMAGES = 2000


def larq_nobn(*arguments):
    """Runs a command line whose last argument is its JSON; returns that."""
    command = [sys.executable, "-m", "larq_nobn", *map(str, arguments), "--force"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))


def file_of(folder, name, form):
    suffix = ".c" if form.startswith("C") else ".tflite"
    return folder / f"{re.sub('[^0-9A-Za-z]+', '_', f'{name} {form}')}{suffix}"


def trained_file(folder, name, form, images=()):
    """Converts a trained network by the command line, if that was not done."""
    path = file_of(folder, name, form)
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


def timed_file(folder, name, form):
    """Converts a network for its time alone, if that was not done."""
    path = file_of(folder, name, form)
    if path.exists():
        return path
    if name in LARGE:
        builder, arguments = LARGE[name]
        model = network(builder, 224, 1000, **arguments)
    else:
        model, _ = open_pretrained(name)
    shape, classes = model.input_shape[1:], model.output_shape[-1]
    images = np.random.default_rng(SEED).normal(size=(4, *shape)).astype(np.float32)
    if form in ORDINARY:
        width = int(re.findall(r"-w(\d+)-", name)[0]) // ORDINARY[form]
        blocks = (2, 2) if shape[0] == 8 else (2, 2, 2, 2)  # as digits have
        ordinary = float_resnet(shape, classes, width=width, blocks=blocks)
        ordinary_file(ordinary, path, images)
        return path
    int8 = form.endswith("int8")
    if int8:
        model = nobn.deploy.fake_quantize(model, images, verify=False)
    runtime = form.split(",")[0].lower()
    small = form == "C, small"
    nobn.convert(model, path, verify=False, int8=int8, runtime=runtime, small=small)
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
@click.option("--form", "forms", multiple=True, type=click.Choice(("Keras", *FORMS)))
@output("runtimes")
def accuracy(folder, only, cifar100, forms, output):
    folder.mkdir(parents=True, exist_ok=True)
    rows = {name: {} for name in only or TRAINED}
    for form in forms or ("Keras", "LiteRT, int8", "LCE", "LiteRT", "LCE, int8"):
        for name, row in rows.items():
            images = ("--dataset", cifar100) if cifar100 and "cifar100" in name else ()
            done = folder / f"{name}-{form}.measured.json"
            row[form] = kept(done, measure, folder, name, form, images)
            print(name, form, row[form], flush=True)
    draw = drawing.accuracies if forms else drawing.runtime_accuracies
    result = {"ranges_from_training_images": 256, "rows": rows}
    leave(output / "accuracy", __doc__, draw, **result)


@main.command()
@click.option("--folder", type=Path, required=True, help="Where the files go.")
@click.option("--runs", default=30, show_default=True)
@click.option("--only", multiple=True, type=click.Choice((*TRAINED, *LARGE)))
@output("runtimes")
def latency(folder, runs, only, output):
    folder.mkdir(parents=True, exist_ok=True)
    busy = os.getloadavg()[0]  # before this process adds to it
    rows = {}
    for name in only or (*TRAINED, *LARGE):
        forms = (*TIMED, *ORDINARY) if name.startswith("reactnet18-w") else TIMED
        files = {form: timed_file(folder, name, form) for form in forms}
        rows[name] = timed(files, runs)
        print(name, {form: row["ms"] for form, row in rows[name].items()}, flush=True)
    measured = {
        "instructions": instructions(),
        "other_processes": round(busy, 1),
        "seed": SEED,
        "threads": 1,
        "runs": runs,
        "rows": rows,
    }
    engine = "larq_compute_engine"
    leave(output / "latency", __doc__, drawing.all_latencies, engine, **measured)


if __name__ == "__main__":
    main()
