"""A run that is killed again and again ends like one that was left alone."""

from __future__ import annotations

import signal
from pathlib import Path

import fresh
import numpy as np
import pytest
from larq_nobn import training
from training.runs import assert_same, history_of

SETTINGS = training.RunSettings(
    "plain",
    dataset="digits",
    width=4,
    blocks=(1,),
    epochs=2,
    batch_size=32,
    limit=96,
)
ARGUMENTS = (
    *("train", "--recipe", "plain", "--dataset", "digits"),
    *("--width", "4", "--blocks", "1"),
    *("--epochs", "2", "--batch-size", "32", "--limit", "96"),
    *("--checkpoint-steps", "2"),
)
# The command, which sends itself a signal just before a file gets its name: when it is
# there in full under a temporary one, and all before it is done.
COMMAND = """
import os, signal, sys
from larq_nobn.cli import main
from training.runs import with_little_network, without_curves

number, name, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rename = os.replace
seen = []

def replace(source, target):
    seen.append(os.path.basename(target))
    if seen[-1] == name and seen.count(name) == count:
        os.kill(os.getpid(), number)
    rename(source, target)

os.replace = replace
with with_little_network(), without_curves():
    main(sys.argv[4:])
"""


def ended(folder: Path, number: int, name: str, count: int) -> fresh.Ended:
    """Runs the command with --resume until the signal ends it."""
    moment = (int(number), name, count)
    done = fresh.run(COMMAND, [*moment, *ARGUMENTS, "--resume", "--output", folder])
    assert "Traceback" not in done.stderr
    return done


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.usefixtures("little_network")
def test_killed_and_stopped(tmp_path: Path):
    whole = training.train(SETTINGS, tmp_path / "whole")
    folder = tmp_path / "killed"

    # Killed in the middle of a checkpoint within an epoch, whose file is never read.
    done = ended(folder, signal.SIGKILL, "epoch-0001-step-0000002.npz", 1)
    assert done.returncode == -signal.SIGKILL
    assert history_of(folder) == history_of(whole.folder)[:1]
    (partial,) = folder.glob("checkpoints/.partial-*.npz")
    partial.write_bytes(partial.read_bytes()[:100])

    # Asked to stop with the model saved, but not what says that the run is over.
    done = ended(folder, signal.SIGTERM, "run.json", 1)
    assert done.returncode == 143
    assert done.stderr.splitlines()[-1] == (
        f"Stopped; nothing half-written is left. {folder} is saved up to epoch 2. To "
        f"resume: larq-nobn train --resume {folder}"
    )
    names = {"epoch-0001-step-0000002.npz", "epoch-0002.npz", "network.keras"}
    assert names_in(folder / "checkpoints") == names
    assert "model.keras" in names_in(folder) and "run.json" not in names_in(folder)

    run = training.train(SETTINGS, folder, resume=True, checkpoint_steps=2)
    assert names_in(folder) == names_in(whole.folder)
    assert_same(training.load_run(folder), training.load_run(whole.folder))
    assert run.record["settings"] == whole.record["settings"]
    for name, value in whole.record["metrics"].items():
        np.testing.assert_array_equal(run.record["metrics"][name], value)
