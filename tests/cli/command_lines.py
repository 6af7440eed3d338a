"""Command lines as they stand on pages and in help texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from larq_nobn.cli import main


def blocks(page: str, language: str) -> str:
    """The code of a page in one language."""
    pattern = rf"^ *```{language}\n(.*?)^ *```"
    return "".join(re.findall(pattern, page, re.DOTALL | re.MULTILINE))


def lines_of(page: str) -> list[list[str]]:
    """The words after `larq-nobn` of each command on a page."""
    lines = blocks(page, "bash").replace("\\\n", " ").splitlines()
    words = [line.partition("#")[0].split() for line in lines]
    return [line[1:] for line in words if line[:1] == ["larq-nobn"]]


def assert_understood(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Parses the words after `larq-nobn` as the command would, without running it.

    Arguments:
        words: The command and its arguments.
        monkeypatch: Undoes it all.
        folder: An empty one, in which named files and folders are made, as earlier
            lines would have done.
    """
    name, *arguments = words
    monkeypatch.chdir(folder)
    for word in map(Path, arguments):
        if word.suffix:
            word.parent.mkdir(parents=True, exist_ok=True)
            word.touch()
        elif not str(word).startswith("-"):
            word.mkdir(parents=True, exist_ok=True)
    command = main.commands[name]
    context = command.make_context(name, arguments)
    given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    assert given <= known and context.params
