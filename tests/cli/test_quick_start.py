"""What needs no network is answered without importing TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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
        train --epochs none
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
# What comes after the words, of which the last is to be completed.
COMPLETED = {"larq-nobn tr": "train", "larq-nobn train --mod": "--model"}
# The program, which then says of each command line how it ended, and what it imported.
# The last one needs networks: it has legacy Keras, every class by its name, and all
# public names.
PROGRAM = """\
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from larq_nobn.cli import main

ends = []
for variables, line in json.loads(sys.argv[1]):
    os.environ |= variables
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with redirect_stdout(said), redirect_stderr(said):
        try:
            main(line, prog_name="larq-nobn")
        except SystemExit as end:
            imported = "tensorflow.python" in sys.modules
            text = said.buffer.getvalue().decode()
            ends.append([end.code or 0, imported, text])
    for name in variables:
        del os.environ[name]

import larq_nobn
from larq_nobn._keras import keras

objects = keras.utils.get_custom_objects().items()
names = [n for n, c in objects if c.__module__.startswith("larq_nobn")]
missing = [n for n in larq_nobn.__all__ if not hasattr(larq_nobn, n)]
print(json.dumps([ends, keras.__name__, sorted(names), missing]))
"""


def python(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    chosen = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**chosen, "PYTHONPATH": str(ROOT)},
    )


def completion(words: str) -> dict[str, str]:
    place = str(len(words.split()) - 1)
    variables = {"COMP_WORDS": words, "COMP_CWORD": place}
    return {**variables, "_LARQ_NOBN_COMPLETE": "bash_complete"}


@pytest.mark.slow
def test_only_what_needs_networks_imports_tensorflow(tmp_path: Path):
    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(3):
            pixels = np.full((9, 9, 3), 40 * k + len(name), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{k}.png")
    # Of which Pillow warns.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x09\0\x01\0\0\0\0\xff"
    cut = tmp_path / "images" / "cats" / "cut.jpg"
    Image.new("RGB", (9, 9)).save(cut, exif=exif)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "larq-nobn").write_text(PROGRAM)
    assert {line[0] for line in WRONG} >= set(main.commands)
    lines = [*HELP, *WRONG, *INSPECTED, ["models"]]
    given = [(completion(words), []) for words in COMPLETED]
    given += [({}, line) for line in lines]
    done = python("larq-nobn", json.dumps(given), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("Error: ") for line in done.stderr.splitlines())
    ends, keras_name, registered, missing = json.loads(done.stdout.splitlines()[-1])
    for words, (_, imported, said) in zip(COMPLETED, ends, strict=False):
        assert COMPLETED[words] in said.replace("plain,", "").split()
        assert not imported
    ends = ends[len(COMPLETED) :]
    codes = [0] * len(HELP) + [2] * len(WRONG) + [0] * len(INSPECTED) + [0]
    for line, (code, imported, said), expected in zip(lines, ends, codes, strict=True):
        assert (line, code, imported) == (line, expected, line == ["models"]), said
        assert "Traceback" not in said
    assert "cats" in ends[-5][2] and "reactnet18-w32-digits" in ends[-1][2]
    written = (tmp_path / "found.json").read_text()
    assert json.loads(written) == json.loads(ends[-4][2])
    assert json.loads(written)["classes"]["dogs"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 2 * 72
    assert (keras_name, missing) == ("tf_keras", [])
    objects = keras.utils.get_custom_objects().items()
    ours = {n for n, c in objects if c.__module__.startswith(PACKAGE)}
    assert set(registered) == ours
