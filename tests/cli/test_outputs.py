"""What a command writes destroys nothing: neither what it reads, nor anything else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from larq_nobn import training
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn._keras import keras
from larq_nobn.cli import main
from larq_nobn.cli._outputs import Output
from PIL import Image


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: a run, models, pictures, all but real."""
    monkeypatch.chdir(tmp_path)
    for name, content in (
        ("run/model.keras", b"PK\3\4 weights"),
        ("run/run.json", b'{"settings": {}}'),
        ("run/checkpoints/epoch-0001.npz", b"checkpoint"),
        ("own.keras", b"PK\3\4 config.json mine"),
        ("other.keras", b"PK\3\4 config.json mine too"),
        ("own.tflite", b"\x1c\0\0\0TFL3 mine"),
        ("other.tflite", b"\x1c\0\0\0TFL3 mine too"),
        ("own.tflite.json", b"{}"),
        ("notes.txt", b"notes"),
        ("report.json", b"{}"),
        ("picture.png", b"\x89PNG"),
        ("pictures/cat/1.png", b"\x89PNG"),
        ("pip.pth", b"checkpoint"),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    Path("nowhere").symlink_to("gone")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Every command that writes a file: the words before it, and its options of a kind.
LINES = {
    "convert": ("convert {model}", {"": "tflite", "--json": "json"}),
    "models": ("models", {"--json": "json"}),
    "fold": ("fold {model}", {"": "keras", "--json": "json"}),
    "remove": ("remove {model}", {"": "keras", "--json": "json"}),
    "import": ("import pip.pth", {"": "keras"}),
    "evaluate": (
        "evaluate {model} --dataset digits",
        {"--json": "json", "--plot": "png", "--mistakes": "png"},
    ),
    "predict": ("predict {model} pictures", {"--json": "json"}),
    "audit": ("audit own.tflite", {"--json": "json"}),
    "report": ("report run", {"--json": "json", "--png": "png"}),
    "compare": ("compare --dataset digits --output grid", {"--json": "json"}),
    "benchmark": ("benchmark own.tflite", {"--json": "json"}),
    "data": ("data ./pictures", {"--json": "json", "--sheet": "png"}),
}
EVERY = [(name, option) for name, (_, options) in LINES.items() for option in options]
NAMES = {"tflite": "new.tflite", "keras": "new.keras", "json": "new.json"}
NAMES["png"] = "new.png"
THERE = {
    "tflite": "other.tflite",
    "keras": "other.keras",
    "json": "report.json",
    "png": "picture.png",
}


def words(name: str, option: str, target: object, model: str = "run") -> list[str]:
    """The command line by which a command writes that file."""
    line, options = LINES[name]
    actual = line.format(model=model).split()
    if option and "" in options:
        actual.append(NAMES[options[""]])
    return [*actual, *[option] * bool(option), str(target)]


def outputs_of(command: click.Command) -> Iterator[str]:
    for each in command.params:
        if isinstance(each.type, Output):
            yield each.opts[0] if isinstance(each, click.Option) else ""


def test_every_output_is_here():
    known = {(name, o) for name, c in main.commands.items() for o in outputs_of(c)}
    assert known == set(EVERY)
    for command in main.commands.values():
        has = any(each.name == "force" for each in command.params)
        assert has == bool([*outputs_of(command)])


def test_an_existing_output_needs_force(invoke: Invoke, place: Path):
    exists = "exists already. Choose another name, or overwrite it with --force"
    before = contents(place)
    for name, option in EVERY:
        target = THERE[LINES[name][1][option]]
        said = one_sentence(invoke(*words(name, option, target)))
        assert target in said and exists in said
    for target, sentence in {
        "nowhere": exists,
        "pictures": "pictures is not a regular file. Choose another name",
        "/dev/null": "/dev/null is not a regular file. Choose another name",
        "deep/file": "deep/file is in a folder that does not exist. Create",
    }.items():
        line = words("audit", "--json", target)
        said = one_sentence(invoke(*line))
        assert sentence in said
        if sentence != exists:
            assert one_sentence(invoke(*line, "--force")) == said
    assert contents(place) == before
    assert Path("nowhere").is_symlink()


def test_what_is_read_is_not_written(invoke: Invoke, place: Path):
    Path("link").symlink_to("own.keras")
    os.link("own.keras", "hard")
    Path("linked").symlink_to("pictures/cat")
    Path("link.keras").symlink_to("own.keras")
    before = contents(place)
    for line in (
        f"predict own.keras pictures --json {place / 'own.keras'}",
        "evaluate own.keras --dataset digits --json ./own.keras",
        "fold own.keras new.keras --json run/../own.keras",
        "remove own.keras new.keras --json link",
        "evaluate own.keras --dataset digits --json hard",
        "audit own.tflite --json own.tflite.json",
        "audit own.tflite --against other.tflite --json other.tflite",
        "benchmark own.tflite --against other.tflite --json other.tflite",
        "predict run pictures/cat/1.png --json pictures/cat/1.png",
        "data ./pictures --sheet pictures/cat/new.png",
        "evaluate run --dataset pictures --plot linked/new.png",
        "evaluate run --json run/run.json --dataset digits",
        "convert run run/checkpoints/new.tflite",
        "report run --json run/history.csv",
        "compare --dataset digits --init own.keras --output g --json own.keras",
        "compare --dataset digits --teacher own.keras --output g --json link.keras",
    ):
        said = one_sentence(invoke(*line.split(), "--force"))
        assert "would overwrite a file that the command reads" in said
    assert contents(place) == before


def test_nor_a_run(invoke: Invoke, place: Path):
    """Whose curves.png would be of another class."""
    Path("pictures/cat/1.png").unlink()
    for number in range(60):
        file = Path("pictures", ("cat", "dog")[number % 2], f"{number}.png")
        file.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 4 * number).save(file)
    Path("linked").symlink_to("pictures/cat")
    before = contents(place)
    for line in (
        "train --output linked/run",
        "compare --output pictures",
    ):
        said = one_sentence(invoke(*line.split(), "--dataset", "pictures"))
        assert "is inside the image folder " in said
        assert said.endswith("would count as images. Choose another output.")
    assert contents(place) == before


def test_force_overwrites(place: Path, invoke: Invoke):
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3)(inputs))
    training.save_model(keras.Model(inputs, x), place / "float.keras")
    targets = ("fold", "float.keras", "other.keras", "--json", "report.json")
    said = one_sentence(invoke(*targets))
    assert said == (
        "Error: Output other.keras exists already. Choose another name, or overwrite "
        "it with --force."
    )
    assert invoke(*targets, "--force").exit_code == 0
    assert training.open_model("other.keras").count_params() > 0
    assert "changes" in json.loads(Path("report.json").read_text())
