"""What `--help` says: groups, defaults, and examples that work as printed."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import larq_nobn as nobn
import click
import pytest
from larq_nobn import training
from cli.command_lines import assert_understood
from click.testing import Result
from larq_nobn.cli import main

Invoke = Callable[..., Result]
NAMES = sorted(main.commands)


def examples(name: str) -> list[list[str]]:
    """The command lines of a help text, each with its continuation lines."""
    text = main.commands[name].help.replace("\\\n", " ")
    found = re.findall(r"^ *(?:Example: )?larq-nobn (.*)$", text, re.MULTILINE)
    lines = [shlex.split(line) for line in found]
    return [words[1:] for words in lines if words[0] == name]


ALL = [pytest.param(n, e, id=shlex.join([n, *e])) for n in NAMES for e in examples(n)]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_two_examples(name: str):
    assert len(examples(name)) >= 2


@pytest.mark.parametrize(("name", "words"), ALL)
def test_examples_are_understood(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert_understood([name, *words], monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def with_batch_norm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("help") / "model.keras"
    model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", 8, blocks=(1,))
    training.save_model(model, file)
    return file


@pytest.fixture
def place(
    run_folder: Path,
    with_batch_norm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with the files that examples name."""
    shutil.copytree(run_folder, tmp_path / "runs" / "a")
    shutil.copy(with_batch_norm, tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ("fold", "remove", "report")


@pytest.mark.parametrize("name", QUICK)
def test_quick_examples_run_as_printed(name: str, invoke: Invoke, place: Path):
    for words in examples(name):
        expanded = [path for word in words for path in glob.glob(word) or [word]]
        result = invoke(name, *expanded)
        assert result.exit_code == 0, result.output
        written = [word for word in words if word.endswith((".png", ".json"))]
        assert all((place / each).stat().st_size for each in written)


@pytest.mark.convert
def test_examples_of_a_file_run_as_printed(
    lite_file: Path, invoke: Invoke, place: Path
):
    for name in ("model.tflite", "other.tflite"):
        shutil.copyfile(lite_file, place / name)
    for words in examples("audit"):
        result = invoke("audit", *words)
        assert result.exit_code == 0, result.output


def sections(text: str) -> dict[str, list[str]]:
    """The options below each heading."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"[A-Z][^:]*:", line):
            found[line[:-1]] = []
        elif option := re.match(r"  (?:-\w, )?--([\w-]+)", line):
            found[[*found][-1]].append(option[1])
    return found


@pytest.mark.parametrize("name", ["train", "compare"])
def test_options_come_in_groups(name: str, invoke: Invoke):
    found = sections(invoke(name, "--help").stdout)
    assert [*found] == [
        "Network and data",
        "Training",
        "Precision and memory",
        "Execution and output",
        "Options",
    ]
    listed = [option for options in found.values() for option in options]
    known = [
        p.opts[0].removeprefix("--")
        for p in main.commands[name].params
        if isinstance(p, click.Option)
    ]
    assert sorted(listed) == sorted([*known, "help"])
    assert found["Precision and memory"] == ["precision", "accumulate"]
    assert "output" in found["Execution and output"]


def test_defaults_are_those_of_the_usual_recipe(invoke: Invoke):
    text = invoke("train", "--help").stdout
    settings = training.RunSettings.from_recipe()
    for option, shown in (
        ("--epochs", f"({settings.epochs} in recipe nobn)"),
        ("--learning-rate", f"({settings.learning_rate} in recipe nobn)"),
        ("--calibrate", "(yes in recipe nobn)"),
        ("--kernel", "(the network's own in recipe nobn)"),
        ("--teacher", "(the labels in recipe nobn)"),
        ("--normalization", settings.normalization),
        ("--limit", "(all)"),
    ):
        described = " ".join(text.split(f"\n  {option} ", 1)[1].split())
        assert re.search(r"\[default: (.+?)\]", described)[1] == shown


@pytest.mark.parametrize("name", ["train", "evaluate", "compare"])
def test_forms_of_words_are_shown_as_they_are_typed(name: str, invoke: Invoke):
    """Click writes them in capitals, and `TFDS:food101` is no data set."""
    assert "--dataset NAME|FOLDER|tfds:NAME\n" in invoke(name, "--help").stdout


def test_help_texts_are_sentences():
    """Of a capital letter and a full stop; an option that starts small is a value."""
    for name, command in main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                text = option.help
                assert text and text.endswith("."), f"{name} {option.name}: {text}"
                assert len(text.split()) > 1, f"{name} {option.name}: {text}"
