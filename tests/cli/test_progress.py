"""What a terminal shows while a command works; what streams take and show."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import larq_nobn as nobn
import fresh
import numpy as np
import pytest
from larq_nobn import deploy
from cli.conftest import Invoke
from deploy.nets import binary_conv, chain, head
from larq_nobn._progress import step, watched
from larq_nobn.cli import _console
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
    for text, *numbers in (("Comparing examples", 314, 1256), ("Tracing",)):
        with _console.progress("converting m.keras"):
            step(text, *numbers)
        assert (f"converting m.keras: {text}" in written.getvalue()) is terminal
    assert (" 25%" in written.getvalue()) is terminal
    assert terminal or written.getvalue() == ""


def texts(said: list[tuple[str, int, int | None]]) -> list[str]:
    return list(dict.fromkeys(text for text, _, _ in said))


@pytest.mark.convert
def test_a_conversion_says_its_steps(tmp_path):
    said: list[tuple[str, int, int | None]] = []
    network = chain(binary_conv(), *head())
    images = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype(np.float32)
    with watched(lambda *each: said.append(each)):
        nobn.convert(network, tmp_path / "m.tflite", data=images)
    assert texts(said) == ["Tracing", "Converting", "Comparing examples"]
    counts = [each[1:] for each in said if each[0] == "Comparing examples"]
    assert counts[0] == (0, 40)
    assert all(done < total for done, total in counts)
    del said[:]
    with watched(lambda *each: said.append(each)):
        deploy.fake_quantize(network, images, verify=False)
    assert said == [("Calibrating ranges", 0, None), ("Calibrating ranges", 32, None)]


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
    assert ("100%" in written.getvalue()) is terminal
    assert terminal or written.getvalue() == ""


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


def test_a_home_that_cannot_be_written_is_nothing_to_say(tmp_path: Path):
    """matplotlib makes a folder there when it is imported, by every command."""
    (tmp_path / "home").touch()
    home = str(tmp_path / "home")
    done = fresh.run(
        "import imported_first, os, runpy, sys\n"
        "for name in ('MPLCONFIGDIR', 'XDG_CONFIG_HOME', 'XDG_CACHE_HOME'):\n"
        "    os.environ.pop(name, None)\n"
        f"os.environ['HOME'] = {home!r}\n"
        "sys.modules.pop('matplotlib', None)\n"
        "runpy.run_module('larq_nobn', run_name='__main__', alter_sys=True)",
        ("report", tmp_path / "gone", "--png", tmp_path / "new.png"),
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
