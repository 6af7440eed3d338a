"""What a terminal shows while a command works; what streams take and show."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import Invoke
from larq_nobn._progress import step
from larq_nobn.cli import _console, _epoch_progress
from larq_nobn.training import RunSettings
from PIL import Image
from rich.console import Console

LOGS = "loss", "accuracy", "val_accuracy"


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], io.StringIO]:
    """Makes what the commands write beside their results, on a terminal or not."""

    def stream(terminal: bool) -> io.StringIO:
        written = io.StringIO()
        console = Console(file=written, force_terminal=terminal, width=100)
        monkeypatch.setattr(_console, "console", lambda stderr=False: console)
        return written

    return stream


@pytest.mark.parametrize("terminal", [True, False])
def test_steps_are_shown_on_a_terminal_only(terminal: bool, streams):
    written = streams(terminal)
    for text, *numbers in (("Comparing examples", 314, 1256), ("Tracing",)):
        with _console.progress("converting m.keras"):
            step(text, *numbers)
        assert (f"converting m.keras: {text}" in written.getvalue()) is terminal
    assert (" 25%" in written.getvalue()) is terminal
    assert terminal or written.getvalue() == ""


def test_evaluation_and_prediction_show_how_far_they_are(
    streams, run_folder: Path, invoke: Invoke, tmp_path: Path
):
    written = streams(True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    for line, shown in (
        (("evaluate", run_folder, "--limit", 8), f"evaluating {run_folder}"),
        (("predict", run_folder, tmp_path / "a.png"), f"classifying by {run_folder}"),
    ):
        assert invoke(*line, "--json", "-").exit_code == 0
        # A terminal is narrower than the path.
        assert shown[:40] in written.getvalue()
    assert written.getvalue().count("100%") >= 2


def test_an_error_that_cannot_be_written_has_its_exit_code():
    command = [sys.executable, "-m", "larq_nobn", "fly"]
    with open("/dev/full", "wb") as full:
        assert subprocess.run(command, stderr=full).returncode == 2


def test_a_stream_without_the_letters_of_a_name(tmp_path: Path):
    for name in ("ü", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    done = subprocess.run(
        [sys.executable, "-m", "larq_nobn", "data", tmp_path],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert done.returncode == 0
    assert rb"| \xfc " in done.stdout


@pytest.mark.parametrize(
    ("steps", "epochs", "line"),
    [  # steps of 6 s after one of 60, 10 s of evaluation in each epoch
        (100, 5, "One step takes 6.00 s, the training 49 minutes."),  # 500 - 12 steps
        (2, 20, "One epoch takes 22.00 s, the training 7 minutes."),  # 18 epochs
        (100, 1, "One step takes 6.00 s, the training 9 minutes."),
        (1, 4, None),
    ],
)
def test_minutes_are_said_soon(steps, epochs, line, streams, monkeypatch):
    written, now = streams(False), [0.0]
    monkeypatch.setattr(_epoch_progress, "perf_counter", lambda: now[0])
    shown = _epoch_progress.TrainingProgress(RunSettings(epochs=epochs))
    shown.set_params({"steps": steps})
    for epoch in range(epochs):
        shown.on_epoch_begin(epoch)
        for batch in range(steps):
            now[0] += 6 if epoch or batch else 60
            shown.on_train_batch_end(batch)
        now[0] += 10
        shown.on_epoch_end(epoch, dict.fromkeys(LOGS, 0.5))
    said = [x for x in written.getvalue().splitlines() if x.startswith("One ")]
    assert said == [line] * (line is not None)
