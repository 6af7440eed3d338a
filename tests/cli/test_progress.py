"""What a terminal shows while a command works, and that nothing else does."""

import io
from collections.abc import Iterator
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn import deploy, surgery, training
from cli.conftest import Invoke
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn._progress import step, watched
from larq_nobn.cli import _console, _progress
from PIL import Image
from rich.console import Console


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def stream(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[bool, io.StringIO]]:
    """Where the commands write beside their results, and whether it is a terminal."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=request.param, width=100)
    monkeypatch.setattr(_console, "console", lambda stderr=False: console)
    return request.param, written


def test_steps_are_shown_on_a_terminal_only(stream: tuple[bool, io.StringIO]):
    terminal, written = stream
    with _console.progress("converting m.keras") as bar:
        step("Comparing examples", 32, 1256)
        bar.refresh()
        step("Calibrating ranges", 2048)
        bar.refresh()
        step("Preparing")
        bar.refresh()
    shown = written.getvalue()
    for text in (
        "converting m.keras: Comparing examples",
        "32/1256",
        "converting m.keras: Calibrating ranges",
        "2048/?",
        "converting m.keras: Preparing",
    ):
        assert (text in shown) is terminal
    assert terminal or shown == ""


def texts(said: list[tuple[str, int, int | None]]) -> list[str]:
    return list(dict.fromkeys(text for text, _, _ in said))


@pytest.mark.convert
def test_a_conversion_says_its_steps(tmp_path):
    said: list[tuple[str, int, int | None]] = []
    network = chain(binary_conv(), *head())
    images = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype(np.float32)
    with watched(lambda *each: said.append(each)):
        nobn.convert(network, tmp_path / "m.tflite", data=images)
    assert texts(said) == ["Preparing", "Converting", "Comparing examples"]
    counts = [each[1:] for each in said if each[0] == "Comparing examples"]
    assert counts[0] == (0, 40)
    assert all(done < total for done, total in counts)
    del said[:]
    with watched(lambda *each: said.append(each)):
        deploy.fake_quantize(network, images, verify=False)
    assert said == [("Calibrating ranges", 0, None), ("Calibrating ranges", 32, None)]


def test_other_long_work_says_its_steps():
    said: list[tuple[str, int, int | None]] = []
    norms = [keras.layers.BatchNormalization() for _ in range(2)]
    network = chain(norms[0], binary_conv(), norms[1], *head())
    with watched(lambda *step: said.append(step)):
        surgery.fold_batch_norm(network)
    assert said[:2] == [("Folding batch norms", 0, 2), ("Folding batch norms", 1, 2)]
    assert texts(said)[1:] == ["Comparing examples"]
    said.clear()
    with watched(lambda *step: said.append(step)):
        surgery.remove_batch_norm(network)
    count = len(network.layers) - 1
    assert said == [("Replacing layers", done, count) for done in range(count)]
    said.clear()
    network = nobn.models.ReActNet18((8, 8, 1), 10, width=8, blocks=(1,))
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    with watched(lambda *step: said.append(step)):
        nobn.calibrate(network, images)
    assert [done for _, done, _ in said] == list(range(1, 1 + (said[0][2] or 0)))
    assert texts(said) == [f"Initializing {network.name} from data"]


def test_evaluation_and_prediction_show_how_far_they_are(
    stream: tuple[bool, io.StringIO], run_folder: Path, invoke: Invoke, tmp_path: Path
):
    terminal, written = stream
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    for line, shown in (
        (("evaluate", run_folder, "--limit", 200), f"evaluating {run_folder}"),
        (("predict", run_folder, tmp_path / "a.png"), f"classifying by {run_folder}"),
    ):
        assert invoke(*line, "--json", "-").exit_code == 0
        # A terminal is narrower than the path.
        assert (shown[:40] in written.getvalue()) is terminal
    assert ("2/2" in written.getvalue()) is terminal
    assert ("1/1" in written.getvalue()) is terminal
    assert terminal or written.getvalue() == ""


def test_steps_beside_a_training_go_when_they_are_complete(
    stream: tuple[bool, io.StringIO],
):
    terminal, written = stream
    settings = training.RunSettings(epochs=1)
    with _progress.training_progress(settings) as callback:
        bar = callback._bar
        step("Initializing net from data", 1, 2)
        bar.refresh()
        assert ("Initializing net from data" in written.getvalue()) is terminal
        (shown,) = (t for t in bar.tasks if t.description.startswith("Initializing"))
        step("Initializing net from data", 2, 2)
        assert not shown.visible
