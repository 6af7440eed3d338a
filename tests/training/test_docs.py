"""What the pages on training say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import click
from larq_nobn import training
from cli.command_lines import lines_of
from larq_nobn.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "training.md").read_text(encoding="utf-8")
OTHERS = ("images", "evaluation", "distributed", "fine_tuning", "distillation")
PAGES = PAGE + "".join(
    (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in OTHERS
)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_recipes():
    section = PAGE.split("\n## Recipes\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\|([^|]+)\|", section, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    # Pages that other tests have run may have registered their own.
    assert {*named} == {name for name in training.RECIPES if ">" not in name}


def test_columns_of_the_history(tiny_run: training.Run):
    named = {
        name for first, *_ in rows("Metrics") for name in re.findall(r"`(\w+)`", first)
    }
    only_sometimes = {"peak_gpu_memory_mib", "tau", "power", "fraction", "penalty"}
    only_sometimes |= {"val_loss", "val_accuracy"}
    assert set(tiny_run.history[0]) - only_sometimes == (
        named - only_sometimes | {"epoch"}
    )


def test_files_of_the_folder(tiny_run: training.Run):
    named = {
        name
        for first, *_ in rows("Run folder")
        for name in re.findall(r"`([\w.]+)/?`", first)
    }
    unfinished = {"settings.json", "checkpoints"}
    other_runs = {"stage1", "teacher", "best.keras", "last.keras", "images.txt"}
    files = {path.name for path in tiny_run.folder.iterdir()}
    assert files == named - unfinished - other_runs


COMMANDS_OF_THE_PAGES = {words[0] for words in lines_of(PAGES)}
# Of TensorBoard and Dask.
FOREIGN = {"--help", "--logdir", "--nthreads"}


def test_options_exist():
    given = {
        option
        for name in COMMANDS_OF_THE_PAGES
        for parameter in main.commands[name].params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert set(re.findall(r"--[a-z][a-z-]+", PAGES)) - FOREIGN <= given
