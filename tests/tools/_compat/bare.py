"""What works without any extra, and which sentence the rest ends in.

    python bare.py REPORT     # where nothing but the package itself is installed

`tests/test_package.py` asks the same of an environment whose extras are hidden.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import larq_nobn as nobn  # first: it selects legacy Keras
import numpy as np
from click.testing import CliRunner
from larq_nobn.cli import main as larq_nobn

TINY = ("--width", "8", "--blocks", "1,1", "--epochs", "1", "--limit", "64")
LCE = "pip install 'larq-nobn[lce]'"
DATA = "pip install 'larq-nobn[data]'"
PLOTS = "pip install 'larq-nobn[plots]'"
CLUSTER = "pip install 'larq-nobn[cluster]'"
TORCH = "pip install 'larq-nobn[torch]'"
# Command lines, and the remedy that each one's sentence names; None where no extra is
# missing. The files that they name are those of `prepare`.
COMMANDS = {
    "--help": None,
    "--version": None,
    "demo": DATA,
    f"train --dataset digits {' '.join(TINY)} --output run": DATA,
    "compare --dataset digits --scheduler tcp://127.0.0.1:9 --output grids": CLUSTER,
    "data cifar10": DATA,
    "evaluate model.keras --dataset digits": DATA,
    "evaluate model.tflite --dataset digits": DATA,
    "fold model.keras folded.keras": None,
    "remove model.keras free.keras": None,
    "convert model.keras converted.tflite": LCE,
    "convert model.keras plain.tflite --runtime litert": None,
    "audit model.tflite": None,
    "benchmark model.tflite --runs 3": None,
    "summary model.keras": LCE,
    "report finished --png runs.png": PLOTS,
    "report finished": None,
    "import model.pth.tar out.keras": TORCH,
}


def functions(model, images):
    """The public functions by what they need; the rest is layers and quantizers."""
    probabilities, labels = np.eye(10), np.arange(10)
    return {
        "convert": (LCE, lambda: nobn.convert(model, "m.tflite")),
        "audit": (None, lambda: nobn.audit("model.tflite")),
        "benchmark": (None, lambda: nobn.benchmark("model.tflite", runs=3)),
        "data.load": (DATA, lambda: nobn.data.load("digits", "train", 32)),
        "data.prepare": (DATA, lambda: nobn.data.prepare("cifar10")),
        "interop.load_bnn_nobn": (
            TORCH,
            lambda: nobn.interop.load_bnn_nobn("model.pth.tar"),
        ),
        "diagnostics.reliability_diagram": (
            PLOTS,
            lambda: nobn.diagnostics.reliability_diagram(
                probabilities, labels, "r.png"
            ),
        ),
        "calibrate": (
            None,
            lambda: nobn.calibrate(
                nobn.models.ReActNet18((8, 8, 1), 10, width=8, blocks=(1,)), images
            ),
        ),
        "fold_batch_norm": (None, lambda: nobn.fold_batch_norm(model)),
    }


def prepare(folder):
    """Writes what the commands are about, without any extra."""
    model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", width=8, blocks=(1,))
    nobn.training.save_model(model, folder / "model.keras")
    nobn.convert(model, folder / "model.tflite", verify=False, runtime="litert")
    (folder / "model.pth.tar").write_bytes(b"PK")
    run = folder / "finished"
    run.mkdir()
    record = {
        "settings": asdict(nobn.training.RunSettings(dataset="digits", epochs=1)),
        "metrics": {
            f"{split}_{name}": 0.5
            for split in ("val", "test")
            for name in ("accuracy", "loss")
        },
        "versions": {},
        "history_split": "test",
    }
    (run / "run.json").write_text(json.dumps(record))
    (run / "history.csv").write_text("epoch,val_accuracy,seconds\n1,0.5,1.0\n")
    images = np.random.default_rng(0).normal(size=(10, 8, 8, 1)).astype(np.float32)
    return model, images


def judged(remedy, sentence):
    """None if it is as it should be; else what is wrong."""
    if remedy is None:
        return None if sentence is None else f"failed: {sentence}"
    if sentence is None:
        return "nothing was said to be missing"
    right = remedy in sentence and "\n" not in sentence
    return None if right else f"no word of {remedy}: {sentence}"


def of_command(line):
    """What it says on its way out, or None where all went well."""
    done = CliRunner().invoke(larq_nobn, line.split())
    if done.exit_code == 0:
        return None
    if done.exit_code != 2:
        return f"exit code {done.exit_code}, {done.exception!r}"
    return done.stderr.strip().removeprefix("Error: ")


def of_function(call):
    try:
        call()
    except ImportError as error:
        return str(error)
    except Exception as error:
        # A conversion fails with an error of its own, which is what users catch.
        known = isinstance(error, nobn.deploy.ConversionError)
        return str(error) if known else repr(error)
    return None


def look(folder):
    """Returns what is said of each command and function, and what is wrong in it.

    `folder` is the working folder, and empty.
    """
    model, images = prepare(folder)
    found = {}
    for line, remedy in COMMANDS.items():
        sentence = of_command(line)
        found[f"larq-nobn {line}"] = (remedy, sentence, judged(remedy, sentence))
    for name, (remedy, call) in functions(model, images).items():
        sentence = of_function(call)
        found[name] = (remedy, sentence, judged(remedy, sentence))
    return found


if __name__ == "__main__":
    report = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        report.write_text(json.dumps(look(Path(place))))
