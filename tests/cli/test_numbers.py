"""Numbers of every size, for every option of every command: run, or one sentence."""

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
from larq_nobn._keras import keras
from larq_nobn.cli import main
from larq_nobn.cli._arguments import Word
from larq_nobn.config._fields import settings_of
from larq_nobn.config._settings import Settings
from larq_nobn.training._settings import NETWORKS
from larq_nobn.training.comparison import _compare

WHOLE = ("100000000000000000000", "4294967296", "-1", "1e308", "nan", "0")
REAL = ("1e308", "1e38", "-1", "nan", "inf", "-inf", "0")
# What is above 2**32 - 1 suits none of the options, and below 0 only a few words.
TOO_LARGE = {"100000000000000000000", "4294967296", "1e308", "inf", "nan"}
LINES = {
    "train": "train --dataset digits --output new",
    "compare": "compare --dataset digits --output new",
    "evaluate": "evaluate float.keras --dataset digits",
    "predict": "predict float.keras picture.png",
    "convert": "convert float.keras new.tflite",
    "benchmark": "benchmark own.tflite",
    "remove": "remove float.keras new.keras",
    "import": "import gone.pth new.keras",
    "data": "data ./pictures",
    "demo": "demo --output new",
}


class Begun(Exception):
    """The numbers have passed all checks."""


def numbers_of(command: click.Command) -> Iterator[tuple[str, list[list[str]]]]:
    """Each option that takes numbers, with the words of it for the numbers above."""
    for option in command.params:
        kind = option.type
        if not isinstance(option, click.Option) or option.is_flag:
            continue
        if isinstance(kind, Word) and kind.name in ("N,N,...", "N|HxW", "X,X,..."):
            first = type(kind.convert("8", None, None)[0])
            kind = {int: click.INT, float: click.FLOAT}.get(first, kind)
        if isinstance(kind, click.types.IntParamType):
            values = [[each] for each in WHOLE]
        elif isinstance(kind, click.types.FloatParamType):
            values = [[each] for each in REAL]
        elif isinstance(kind, click.Tuple):
            values = [[each, each] for each in WHOLE]
        else:
            continue
        yield option.opts[0], values


# An option is checked by its name: in one of the commands that have it.
EVERY = [
    *{o: (n, o, v) for n in LINES for o, v in numbers_of(main.commands[n])}.values()
]


def test_every_command_with_a_number_is_here():
    assert {n for n, c in main.commands.items() if [*numbers_of(c)]} == set(LINES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(inputs))
    keras.Model(inputs, keras.layers.Dense(10)(x)).save(folder / "float.keras")
    (folder / "own.tflite").write_bytes(b"\x1c\0\0\0TFL3 mine")
    (folder / "pictures").mkdir()
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def place(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def begin(*_: object, **__: object) -> None:
        raise Begun

    monkeypatch.chdir(files)
    monkeypatch.setattr(training.Trainer, "_run", begin)
    monkeypatch.setattr(_compare, "_executing", begin)
    return files


@pytest.mark.parametrize(
    ("name", "option", "values"), EVERY, ids=[f"{n} {o}" for n, o, _ in EVERY]
)
def test_numbers(
    name: str, option: str, values: list[list[str]], invoke: Invoke, place: Path
):
    before = sorted(place.rglob("*"))
    for value in values:
        result = invoke(*LINES[name].split(), option, *value)
        if "Begun" in result.stderr or result.exit_code == 0:
            assert value[0] not in TOO_LARGE
        else:
            said = one_sentence(result)
            assert "C++" not in said and "tensorflow" not in said.lower()
    assert [each for each in sorted(place.rglob("*")) if each not in before] == []


def test_arguments_of_networks(
    invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch
):
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


RANGES = {n: each.range for n, each in settings_of(Settings).items() if each.range}


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
