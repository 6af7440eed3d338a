"""What `--help` says: commands, groups, defaults, and examples that work as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import larq_nobn as nobn
import click
import pytest
from larq_nobn import training
from cli.command_lines import assert_understood
from cli.conftest import Invoke
from larq_nobn.cli import main

NAMES = sorted(main.commands)


def test_version(invoke: Invoke):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout == f"larq-nobn, version {nobn.__version__}\n"


def test_help_lists_every_command_and_where_to_start(invoke: Invoke):
    shown = {invoke(*words).stdout for words in ([], ["--help"], ["-h"])}
    (text,) = shown
    assert "Start here:       larq-nobn demo" in text
    commands = """
        demo train evaluate predict compare report fold remove convert audit benchmark
        summary data import models
        """
    assert sorted(commands.split()) == NAMES
    for name in NAMES:
        assert re.search(rf"^  {name} +[A-Z]", text, re.MULTILINE)


def examples(name: str) -> list[list[str]]:
    """The command lines of a help text, each with its continuation lines."""
    text = main.commands[name].help.replace("\\\n", " ")
    actual = re.findall(r"^ *(?:Example: )?larq-nobn (.*)$", text, re.MULTILINE)
    lines = [shlex.split(line) for line in actual]
    return [words[1:] for words in lines if words[0] == name]


def test_every_command_has_examples_that_are_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in NAMES:
        assert len(examples(name)) >= 2
        for words in examples(name):
            assert_understood([name, *words], monkeypatch, tmp_path)


def test_defaults_are_those_of_the_usual_recipe(invoke: Invoke):
    text = invoke("train", "--help").stdout
    assert "[ReActNet18|ReActNet34|" in text
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
        described = " ".join(re.split(rf"\n  {option}[ ,]", text)[1].split())
        assert re.search(r"\[default: (.+?)\]", described)[1] == shown


def test_help_texts_are_sentences():
    """Of a capital letter and a full stop; an option that starts small is a value."""
    for name, command in main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                text = option.help
                assert text and text.endswith("."), f"{name} {option.name}: {text}"
                assert len(text.split()) > 1, f"{name} {option.name}: {text}"
