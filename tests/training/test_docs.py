"""What the pages on training say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import click
from larq_nobn import models, training
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


def in_words(recipe: training.Recipe) -> list[str]:
    """The cells of a recipe: epochs, batch, optimizer, rate, clipping, decay."""
    optimizer = {
        "adam": f"Adam, β₂ {recipe.beta_2:g}",
        "sgd": f"SGD, momentum {recipe.momentum:g}",
    }
    rate = f"{recipe.learning_rate:g}, {recipe.schedule}"
    if recipe.warmup_epochs:
        rate += f", {recipe.warmup_epochs} epochs of warm-up"
    decay = f"{recipe.weight_decay:g}"
    if recipe.stages == 2:
        decay = f"{recipe.stage_one_decay:g}, then {decay}"
    return [
        *(f"{recipe.epochs}", f"{recipe.batch_size}", optimizer[recipe.optimizer]),
        *(rate, f"{recipe.clip_factor:g}", decay),
    ]


def test_recipes():
    found = {name.strip("`"): cells for name, *cells, _ in rows("Recipes")}
    expected = {name: in_words(recipe) for name, recipe in training.RECIPES.items()}
    assert found == expected


def test_columns_of_the_history(tiny_run: training.Run):
    named = {
        name for first, *_ in rows("Metrics") for name in re.findall(r"`(\w+)`", first)
    }
    only_sometimes = {"peak_gpu_memory_mib", "tau", "power", "fraction", "penalty"}
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
    other_runs = {"stage1", "teacher"}
    files = {path.name for path in tiny_run.folder.iterdir()}
    assert files == named - unfinished - other_runs


def test_normalizations_that_look_at_the_batch():
    limits = PAGE.split("\n## Reproducibility\n")[1].split("\n## ")[0]
    assert {name for name in models.NORMALIZATIONS if f"`{name}`" in limits} == set(
        models.BATCH_STATISTICS
    )


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
