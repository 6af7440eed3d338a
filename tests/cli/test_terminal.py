"""What the streams of a command take and show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fresh
from cli.answers import one_sentence
from cli.conftest import Invoke
from PIL import Image


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


def test_long_names_are_cut(invoke: Invoke, tmp_path: Path):
    """What was given in the beginning, and what to do at the end, stay."""
    long = "a" * 200 + "b" * 5000 + "c" * 200
    for line in (
        ("train", "--dataset", long, "--output", tmp_path / "run"),
        ("train", f"--{long}"),
        ("summary", f"{long}.keras"),
        ("models", long),
        ("predict", tmp_path, tmp_path / f"{long}.png"),
        ("evaluate", tmp_path, "--json", f"{long}.json"),
    ):
        said = one_sentence(invoke(*line))
        assert len(said) < 2100 and "b" * 1000 not in said


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
