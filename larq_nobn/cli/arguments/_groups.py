"""Long lists of options under headings."""

from __future__ import annotations

import click

from ._command import Command

_REST = "Options"
# In this order, as far as a command has them; what none of them names comes last.
_HEADINGS = {
    "What is trained": (
        "model",
        "normalization",
        "normalizations",
        "kernel",
        "width",
        "blocks",
        "network",
        "dataset",
        "image_size",
        "holdout",
        "validation",
        "skip_unreadable",
        "limit",
        "init",
    ),
    "How it is trained": (
        "recipe",
        "recipes",
        "epochs",
        "batch_size",
        "batch_sizes",
        "learning_rate",
        "learning_rates",
        "schedule",
        "warmup_epochs",
        "optimizer",
        "beta_2",
        "momentum",
        "weight_decay",
        "stage_one_decay",
        "clip_factor",
        "clip_each_gain",
        "shift_multiplier",
        "calibrate",
        "latent_scale",
        "latent_initializer",
        "standardize_activations",
        "reflect",
        "augment",
        "label_smoothing",
        "mixup",
        "balance_classes",
        "backbone_multiplier",
        "stages",
        "teacher",
        "natural_learning_rate",
        "prior_weight",
        "temperature",
        "seed",
        "seeds",
    ),
    "Precision and memory": ("precision", "accumulate"),
    "Where it runs, and what it leaves": (
        "output",
        "force",
        "resume",
        "checkpoint_steps",
        "strategy",
        "wait",
        "jobs",
        "cache",
        "data_dir",
        "target",
    ),
}


class Grouped(Command):
    """A command whose `--help` shows its options in groups."""

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Writes a section for each group that the command has options of."""
        records = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if (record := parameter.get_help_record(ctx)) is not None
        }
        for heading, names in _HEADINGS.items():
            _write(formatter, heading, [records.pop(n) for n in names if n in records])
        _write(formatter, _REST, list(records.values()))


def _write(
    formatter: click.HelpFormatter, heading: str, records: list[tuple[str, str]]
) -> None:
    if records:
        with formatter.section(heading):
            formatter.write_dl(records)
