"""The tools that test the package start, and name themselves by their place."""

from __future__ import annotations

from pathlib import Path

import compat
import fuzz
import mutants
import pytest
from _fuzz.judge import reason_of
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tool", [compat, fuzz, mutants], ids=lambda t: t.__name__)
def test_a_tool_names_commands_that_are_there(tool):
    name = f"tests/tools/{tool.__name__}.py"
    commands = [line for line in tool.__doc__.splitlines() if " python " in line]
    assert commands and all(f"    python {name} " in line for line in commands)
    shown = CliRunner().invoke(tool.main, ["--help"])
    assert shown.exit_code == 0
    for option in {w for line in commands for w in line.split() if w[:2] == "--"}:
        assert option in shown.output


def test_false_refusals_are_counted_by_kind():
    """Of maps of any size, it is one kind; without names and numbers."""
    words = "Layer '{}' pads a {} feature map with zeros for a {} kernel, which"
    said = [words.format("a", "1x1", "3x3"), words.format("b", "2x16", "5x5"), "Other"]
    records = [
        {"seed": i, "outcome": "refused", "convert": {"outcome": "refused", **given}}
        for i, given in enumerate(
            {"reason": reason_of(x), "false": x != "Other"} for x in said
        )
    ]
    actual = fuzz.summarized(records)
    kind = "Layer … pads a #x# feature map with zeros for a #x# kernel, which"
    assert actual["false_refusals"] == {kind: 2}
    assert actual["reasons"] == {kind: 2, "Other": 1}
