"""What needs no network is answered without importing TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import _process
from larq_nobn._keras import PACKAGE, keras
from larq_nobn.cli import main
from PIL import Image

ROOT = Path(__file__).parents[2]
NETWORK = "reactnet18-w32-digits"
HELP = [["--help"], ["--version"], *([name, "--help"] for name in main.commands)]
WRONG = [
    line.split()
    for line in f"""
        no-such-command
        train --no-such-option
        train
        train --output new --dataset digits --width wide
        train --output new --dataset digits --width 0
        train --output new --dataset gone
        compare --output new --learning-rate 0.1,0
        evaluate gone
        evaluate {NETWORK} --plot plot.jpg
        predict {NETWORK} images --top 0
        convert {NETWORK} new.tflite --tolerance 0
        audit notes.txt --json notes.txt
        benchmark notes.txt --limit 5
        data images --from notes.txt
        demo --epochs 0
        report images --png plot.jpg
        fold {NETWORK} new.keras --json gone/report.json
        remove {NETWORK} new.keras --alpha 0
        summary {NETWORK} --trust=yes
        import notes.txt new.keras --image-size 1 1
        models --json images
    """.strip().splitlines()
]
INSPECTED = [
    ["data", "images"],
    ["data", "images", "--json", "-"],
    ["data", "images", "--json", "found.json"],
    ["data", "images", "--json", "found.json", "--force", "--sheet", "sheet.png"],
]
COMPLETED = [("larq-nobn tr", 1, "train"), ("larq-nobn train --mod", 2, "--model")]
# The program, which then says of each command line how it ended, and what it imported.
PROGRAM = """\
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from larq_nobn.cli import main

def imported():
    return "tensorflow.python" in sys.modules

ends = []
for line in json.loads(sys.argv[1]):
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            main(line, prog_name="larq-nobn")
        except SystemExit as end:
            ends.append([end.code or 0, imported(), said.getvalue()])
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in a folder with some images."""
    place = tmp_path_factory.mktemp("quick")
    for name in ("cats", "dogs"):
        (place / "images" / name).mkdir(parents=True)
        for k in range(3):
            pixels = np.full((9, 9, 3), 40 * k + len(name), np.uint8)
            Image.fromarray(pixels).save(place / "images" / name / f"{k}.png")
    (place / "notes.txt").write_text("notes")
    file = place / "larq-nobn"
    file.write_text(PROGRAM)
    return file


def python(*arguments: object, folder: Path, **variables: str):
    chosen = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**chosen, "PYTHONPATH": str(ROOT), **variables},
    )


def test_help_and_wrong_words_need_no_tensorflow(program: Path):
    assert {line[0] for line in WRONG} >= set(main.commands)
    lines = [*HELP, *WRONG, *INSPECTED]
    done = python(program, json.dumps(lines), folder=program.parent)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    codes = [0] * len(HELP) + [2] * len(WRONG) + [0] * len(INSPECTED)
    for line, (code, imported, said), expected in zip(lines, ends, codes, strict=True):
        assert (line, code, imported) == (line, expected, False), said
        assert "Traceback" not in said
    assert "cats" in ends[-4][2]
    written = program.with_name("found.json").read_text()
    assert json.loads(written) == json.loads(ends[-3][2])
    assert json.loads(written)["classes"]["dogs"]
    with Image.open(program.with_name("sheet.png")) as sheet:
        assert sheet.height > 2 * 72


@pytest.mark.parametrize(("words", "place", "found"), COMPLETED)
def test_completion_needs_no_tensorflow(
    words: str, place: int, found: str, program: Path
):
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(place)}
    done = python(
        *("-X", "importtime", "-c"),
        "import sys; sys.argv = sys.orig_argv = ['larq-nobn']; "
        "from larq_nobn.cli import main; main(prog_name='larq-nobn')",
        folder=program.parent,
        _LARQ_NOBN_COMPLETE="bash_complete",
        **variables,
    )
    assert found in done.stdout.replace("plain,", "").split()
    assert "tensorflow.python" not in done.stderr


def test_the_module_is_as_quick(program: Path):
    done = python(
        *("-X", "importtime", "-m", "larq_nobn", "convert", "--help"),
        folder=program.parent,
    )
    assert done.stdout.startswith("Usage: larq-nobn convert")
    assert "tensorflow.python" not in done.stderr and "click" in done.stderr


@pytest.mark.slow
def test_a_command_that_needs_networks_has_the_whole_package(program: Path):
    """Legacy Keras, every class by its name, and all public names."""
    more = (
        "import larq_nobn, os\n"
        "from larq_nobn._keras import keras\n"
        "objects = keras.utils.get_custom_objects().items()\n"
        "names = [n for n, c in objects if c.__module__.startswith('larq_nobn')]\n"
        "public = [n for n in larq_nobn.__all__ if not hasattr(larq_nobn, n)]\n"
        "print(json.dumps([ends, keras.__name__, sorted(names), public]))\n"
    )
    file = program.with_name("whole") / "larq-nobn"
    file.parent.mkdir()
    file.write_text(PROGRAM.replace("print(json.dumps(ends))\n", more))
    done = python(file, json.dumps([["models"]]), folder=program.parent)
    assert done.returncode == 0, done.stderr
    (end, *_), name, registered, missing = json.loads(done.stdout.splitlines()[-1])
    assert end[:2] == [0, True] and "reactnet18-w32-digits" in end[2]
    assert (name, missing) == ("tf_keras", [])
    objects = keras.utils.get_custom_objects().items()
    ours = sorted(n for n, c in objects if c.__module__.startswith(PACKAGE))
    assert set(registered) == set(ours)


@pytest.mark.parametrize(
    ("line", "script", "command"),
    [
        ("python /bin/larq-nobn train", "/bin/larq-nobn", True),
        ("python -m larq_nobn data", "-m", True),
        ("python -X dev -m larq_nobn", "-m", True),
        ("python -m pytest -m larq_nobn", "-m", False),
        ("python mine.py -m larq_nobn", "mine.py", False),
        ("python larq-nobn.py", "larq-nobn.py", False),
        ("python -c code", "-c", False),
        # A process that the command started.
        ("python -c spawn --multiprocessing-fork", "/bin/larq-nobn", False),
    ],
)
def test_what_counts_as_the_command(
    line: str, script: str, command: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "orig_argv", line.split())
    monkeypatch.setattr(sys, "argv", [script])
    assert _process._is_command() == command


def test_a_session_imports_everything_at_once():
    assert not _process.late
