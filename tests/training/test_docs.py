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


def differences(recipe: training.Recipe, usual: training.Recipe) -> set[str]:
    """What a row says of a recipe: its numbers that are not the usual ones."""
    decay = max(recipe.weight_decay, recipe.stage_one_decay)
    clipping = f"clipping at {recipe.clip_factor:g}"
    words = {
        f"{recipe.epochs} epochs": recipe.epochs != usual.epochs,
        f"batches of {recipe.batch_size}": recipe.batch_size != usual.batch_size,
        f"β₂ {recipe.beta_2:g}": recipe.beta_2 != usual.beta_2,
        f"SGD with momentum {recipe.momentum:g}": recipe.optimizer == "sgd",
        f"learning rate {recipe.learning_rate:g}": (
            recipe.learning_rate != usual.learning_rate
        ),
        f"{recipe.warmup_epochs} epochs of warm-up": recipe.warmup_epochs > 0,
        clipping if recipe.clip_factor else "no clipping": (
            recipe.clip_factor != usual.clip_factor
        ),
        f"weight decay {decay:g}": decay > 0,
    }
    return {word for word, differs in words.items() if differs}


NUMBERS = re.compile(
    r"\d+ epochs of warm-up|\d+ epochs|batches of \d+|β₂ [\d.]+\d|no clipping|"
    r"(?:SGD with momentum|learning rate|clipping at|weight decay) [\d.e-]*\d"
)


def test_recipes():
    section = PAGE.split("\n## Recipes\n")[1].split("\n## ")[0]
    recipes, named = training.RECIPES, []
    base = training.Recipe(learning_rate=3e-3)
    for table in section.split("\n\n")[1:4]:
        head, _, *lines = table.splitlines()
        usual = recipes["nobn"] if "from `nobn`" in head else base
        for line in lines:
            first, words = line.split("|")[1:3]
            names = re.findall(r"`(\w+)`", first)
            named += names
            for name in names:
                wanted = differences(recipes[name], usual)
                assert set(NUMBERS.findall(words)) == wanted, name
    assert sorted(named) == sorted(recipes)


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
