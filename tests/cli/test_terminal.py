"""What the streams of a command take and show."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import fresh
import numpy as np
import pytest
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn._tables import sentence
from larq_nobn.cli import _console
from larq_nobn.cli._errors import open_streams
from PIL import Image


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "images"
    for number in range(8):
        path = root / ("one", "two")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return root


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_the_shell_has_closed(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, name, None)
    open_streams()
    with getattr(sys, name) as stream:
        with _console.progress():
            _console.say("said to nobody")
        assert not stream.isatty()


@pytest.mark.parametrize("closed", [(2,), (0, 2), (0, 1, 2)])
def test_streams_that_are_closed_from_the_start(closed: tuple[int, ...]):
    def close() -> None:
        for number in closed:
            os.close(number)

    command = [sys.executable, "-m", "larq_nobn", "fly"]
    assert subprocess.run(command, preexec_fn=close).returncode == 2


def test_an_error_that_cannot_be_written_has_its_exit_code():
    command = [sys.executable, "-m", "larq_nobn", "fly"]
    with open("/dev/full", "wb") as full:
        assert subprocess.run(command, stderr=full).returncode == 2


def test_a_stream_without_the_letters_of_a_name(monkeypatch: pytest.MonkeyPatch):
    written = io.BytesIO()
    with io.TextIOWrapper(written, "ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        open_streams()
        _console.stdout_console().print(_console.pairs("Katze", {"ü": "猫"}))
        stream.flush()
        assert rb"| \xfc | \u732b |" in written.getvalue()


def test_long_names_are_cut(invoke: Invoke, tmp_path: Path, images: Path):
    """What was given in the beginning, and what to do at the end, stay."""
    long = "a" * 200 + "b" * 5000 + "c" * 200
    for line in (
        ("train", "--dataset", long, "--output", tmp_path / "run"),
        ("train", "--model", long, "--dataset", "digits", "--output", tmp_path / "run"),
        ("train", f"--{long}"),
        (long,),
        ("summary", f"{long}.keras"),
        ("models", long),
        ("predict", images, tmp_path / f"{long}.png"),
        ("evaluate", images, "--json", f"{long}.json"),
        ("benchmark", long),
        ("compare", "--grid", long, "--output", tmp_path / "grid"),
    ):
        said = one_sentence(invoke(*line))
        assert len(said) < 2100 and "b" * 1000 not in said


def test_a_message_without_a_middle():
    """By words, and by all of them together."""
    assert sentence("Give a path,\nor two.") == "Give a path, or two."
    assert sentence("x" * 400) == "x" * 400
    assert sentence(f"first {'x' * 401} last") == f"first {'x' * 199}…{'x' * 199} last"
    many = sentence(f"first {'many ' * 1000}last")
    assert len(many) == 1999 and many[:6] == "first " and many[-5:] == " last"


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
