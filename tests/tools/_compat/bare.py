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

TINY = "--width 8 --blocks 1,1 --epochs 1 --limit 64"
LCE, DATA, PLOTS, CLUSTER, TORCH = (
    f"pip install 'larq-nobn[{extra}]'"
    for extra in ("lce", "data", "plots", "cluster", "torch")
)
# Command lines, and the remedy that each one's sentence names; None where no extra is
# missing. The files that they name are those of `prepare`.
COMMANDS = {
    "--help": None,
    "--version": None,
    "demo": DATA,
    f"train --dataset digits {TINY} --output run": DATA,
    "compare --dataset digits --scheduler tcp://127.0.0.1:9 --output grids": CLUSTER,
    "data cifar10": DATA,
    "evaluate model.keras --dataset digits": DATA,
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


def prepare(folder):
    """Writes what the commands are about, without any extra."""
    model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", width=8, blocks=(1,))
    nobn.training.save_model(model, folder / "model.keras")
    nobn.convert(model, folder / "model.tflite", verify=False, runtime="litert")
    (folder / "model.pth.tar").write_bytes(b"PK")
    run = folder / "finished"
    run.mkdir()
    names = [f"{x}_{y}" for x in ("val", "test") for y in ("accuracy", "loss")]
    record = {
        "settings": asdict(
            nobn.training.RunSettings("plain", dataset="digits", epochs=1)
        ),
        "metrics": dict.fromkeys(names, 0.5),
        "versions": {},
        "history_split": "test",
    }
    (run / "run.json").write_text(json.dumps(record))
    (run / "history.csv").write_text("epoch,val_accuracy,seconds\n1,0.5,1.0\n")


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


def of_diagram():
    """As a command, of a function that no command calls."""
    try:
        nobn.diagnostics.reliability_diagram(np.eye(10), np.arange(10), "r.png")
    except ImportError as error:
        return str(error)
    return None


def look(folder):
    """Returns what is said of each command, and what is wrong in it.

    `folder` is the working folder, and empty.
    """
    prepare(folder)
    said = {f"larq-nobn {line}": of_command(line) for line in COMMANDS}
    remedies = {f"larq-nobn {line}": remedy for line, remedy in COMMANDS.items()}
    said["reliability_diagram"], remedies["reliability_diagram"] = of_diagram(), PLOTS
    return {
        name: (remedies[name], sentence, judged(remedies[name], sentence))
        for name, sentence in said.items()
    }


if __name__ == "__main__":
    report = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        report.write_text(json.dumps(look(Path(place))))
