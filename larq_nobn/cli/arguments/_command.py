"""A command that takes no empty words, and writes where nothing is destroyed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from .._package import images
from ._outputs import Output, OutputFolder, check_outputs


class Command(click.Command):
    """Every command of the program; `--force` comes with the first output file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if any(isinstance(each.type, Output | OutputFolder) for each in self.params):
            self.params.append(
                click.Option(
                    ["--force"],
                    is_flag=True,
                    help="Overwrite an existing output file of the same kind.",
                )
            )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the words behind the command's name, none of which may be empty."""
        _check_empty(ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command if it may write where it is told to."""
        check_outputs(ctx, force=ctx.params.pop("force", False))
        with images.reading():
            return super().invoke(ctx)


def _check_empty(ctx: click.Context, args: Sequence[str]) -> None:
    for before, word in zip(("", *args), args, strict=False):
        name, equals, value = word.partition("=")
        if not word.strip():
            name = before if before.startswith("-") else "An argument"
        elif not (equals and name.startswith("--") and not value.strip()):
            continue
        raise click.UsageError(
            f"{name} is empty, as an unset shell variable is. Give it a value, or "
            "leave it out.",
            ctx,
        )
