"""Every number of every command has bounds, which its command checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn._checks import BOUNDS
from larq_nobn.cli import main
from larq_nobn.config._fields import settings_of
from larq_nobn.config._settings import Settings

RANGES = {n: each.range for n, each in settings_of(Settings).items() if each.range}
NUMBERS = (click.types.IntParamType, click.types.FloatParamType, click.Tuple)
# Of each command with a number, one that is too large, or none.
LINES = [
    "train --dataset digits --output new --limit 100000000000000000000",
    "compare --dataset digits --output new --learning-rate 0.1,inf",
    "evaluate float.keras --dataset digits --samples 4294967296",
    "predict float.keras picture.png --top 4294967296",
    "convert float.keras new.tflite --tolerance nan",
    "benchmark own.tflite --threads 4294967296",
    "remove float.keras new.keras --alpha -inf",
    "import gone.pth new.keras --image-size 4294967296 4294967296",
    "data ./pictures --holdout inf",
    "demo --output new --epochs 4294967296",
]


def numbers_of(command: click.Command) -> Iterator[str]:
    """The options that take numbers of which click does not check the range."""
    for option in command.params:
        kind = option.type
        if isinstance(kind, NUMBERS) and not isinstance(kind, click.IntRange):
            yield option.name


def test_every_number_has_bounds():
    found = {name: [*numbers_of(each)] for name, each in main.commands.items()}
    assert {n for names in found.values() for n in names} <= RANGES.keys() | BOUNDS
    assert {name for name, names in found.items() if names} <= {
        line.split()[0] for line in LINES
    }


@pytest.mark.parametrize("line", LINES)
def test_a_number_out_of_bounds(line: str, invoke: Invoke, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("float.keras", "own.tflite", "picture.png", "pictures/a", "gone.pth"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    said = one_sentence(invoke(*line.split()))
    assert "=" in said and ("is outside" in said or "is above" in said)
    assert sorted(tmp_path.rglob("*")) == before
