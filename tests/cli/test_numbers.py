"""Every number of every command has bounds, which its command checks."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from larq_nobn import training
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn._checks import BOUNDS, check_within
from larq_nobn.cli import main
from larq_nobn.config._fields import settings_of
from larq_nobn.config._settings import Settings
from larq_nobn.training._settings import NETWORKS

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


def test_arguments_of_networks(invoke: Invoke, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.Trainer, "_run", lambda run: built(run.config))
    line = ("train", "--dataset", "digits", "--output", "new", "--model")
    values = itertools.cycle(("1e308", "1e999", "-1", "[1e308]"))
    for model in sorted(set(NETWORKS) - {"FloatResNet"}):
        known = inspect.signature(NETWORKS[model]).parameters
        for name in sorted(known.keys() & {"alpha", "weights", "head"}):
            one_sentence(invoke(*line, model, "--network", f"{name}={next(values)}"))


def built(settings: training.RunSettings) -> None:
    """Builds the network of a run, which is to be rejected."""
    NETWORKS[settings.model]((64, 64, 3), 10, **settings.network)
    pytest.fail(f"{settings.network} is built")


@pytest.mark.parametrize("name", [*RANGES, *sorted(BOUNDS.keys() - RANGES.keys())])
def test_the_table(name: str):
    bounds, advice = RANGES.get(name) or BOUNDS[name]
    assert advice.endswith(".")
    if isinstance(bounds, str):
        low, high = (float(end) for end in bounds[1:-1].split(","))
        inside = [low] * (bounds[0] == "[") + [high] * (bounds[-1] == "]")
        outside = [low - 1, high * 1.1, float("nan"), float("inf")]
        said = "is outside "
    else:
        inside, outside = list(bounds), [bounds[0] - 1, bounds[1] + 1]
        said = "is (below|above) "
    for value in inside:
        assert check_within(name, value, (bounds, advice)) == value
    for value in outside:
        with pytest.raises(ValueError, match=said):
            check_within(name, value, (bounds, advice))


@pytest.mark.usefixtures("little_network")
def test_the_largest_seed_trains(tmp_path: Path):
    settings = training.RunSettings(
        dataset="digits", epochs=1, batch_size=16, limit=16, seed=2**32 - 1, mixup=1e4
    )
    run = training.train(settings, tmp_path / "run")
    assert len(run.history) == 1
