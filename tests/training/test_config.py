"""A setting is one field: option, check, docstring and row of the docs follow."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields

import click
import pytest
from click.testing import CliRunner
from larq_nobn.cli._arguments import Grouped, training_options
from larq_nobn.config import (
    GROUPS,
    Recipe,
    Settings,
    documented,
    setting,
    settings_of,
)
from larq_nobn.training import RunSettings
from settings import PAGE, table

ALL = settings_of(RunSettings)


@documented
@dataclass(frozen=True)
class Longer(RunSettings):
    """With one field more.

    Raises:
        ValueError: As ever.
    """

    sharpness: float = setting(
        0.5, "Sharpen the edges of images.", range=("[0, 1]", "0.5 is usual.")
    )


def test_a_new_field_is_checked():
    assert Longer(sharpness=1.0).sharpness == 1.0
    with pytest.raises(ValueError, match=r"sharpness=2 is outside \[0, 1\]. 0.5 is us"):
        Longer(sharpness=2)
    with pytest.raises(TypeError, match="sharpness='a' is not a number"):
        Longer(sharpness="a")


def test_a_new_field_is_an_option():
    found = {}

    @click.command(cls=Grouped)
    @training_options(settings=Longer)
    def command(**given: object) -> None:
        found.update(given)

    result = CliRunner().invoke(command, ["--sharpness", "0.25"])
    assert result.exit_code == 0, result.output
    assert found["sharpness"] == 0.25
    text = CliRunner().invoke(command, ["--help"]).stdout
    described = " ".join(text.split("--sharpness", 1)[1].split())
    assert described.startswith("FLOAT Sharpen the edges of images.")


def test_a_new_field_has_a_line_in_the_docstring():
    section = inspect.getdoc(Longer).split("Arguments:\n")[1].split("\nRaises:")[0]
    assert "    sharpness: Sharpen the edges of images. Allowed: [0, 1]. " in section


def test_a_new_field_has_a_row_in_the_docs():
    (row,) = (line for line in table(Longer).splitlines() if "sharpness" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "`sharpness`, `--sharpness`",
        "Sharpen the edges of images.",
        "[0, 1]",
        "0.5",
    ]


@pytest.mark.parametrize("cls", [Recipe, Settings, RunSettings])
def test_docstrings_describe_every_field_once(cls: type):
    text = inspect.getdoc(cls)
    section = text.split("\nArguments:\n")[1].split("\nRaises:\n")[0]
    starts = [
        line.strip().partition(":")[0]
        for line in section.splitlines()
        if line.startswith("    ") and not line.startswith("     ")
    ]
    assert sorted(starts) == sorted(each.name for each in fields(cls))
    assert max(map(len, text.splitlines())) <= 88


@pytest.mark.parametrize("each", ALL.values(), ids=ALL)
def test_every_setting_says_what_it_does(each):
    assert each.group in GROUPS
    assert each.help.endswith(".") and each.help[0].isupper()
    assert each.check(each.default) == each.default


def test_the_page_of_settings_is_up_to_date():
    """`python docs/tools/settings.py` writes it."""
    page = PAGE.read_text(encoding="utf-8")
    assert table(RunSettings) in page
