"""The tools that test the package start, and name themselves by their place."""

from __future__ import annotations

import sys
from pathlib import Path

import _results
import compat
import fuzz
import mutants
import pytest
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


@pytest.mark.parametrize("name", ["tests/tools/fuzz.py", "benchmarks/train_step.py"])
def test_a_log_names_its_command_from_the_root(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / name), "--output", "a b"])
    assert _results.command() == f"python {name} --output 'a b'"
