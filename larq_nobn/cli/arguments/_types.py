"""Kinds of values that options take."""

from __future__ import annotations

import json
from typing import Any

import click


class Blocks(click.ParamType):
    """Whole numbers between commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Returns `(4, 4)` for `"4,4"`."""
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not of the form 4,4,4,4.", param, ctx)


class Size(click.ParamType):
    """Height and width in pixels."""

    name = "N|HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Returns `(96, 128)` for `"96x128"`, and `(96, 96)` for `"96"`."""
        try:
            sides = [int(part) for part in value.lower().split("x")]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2):
            self.fail(f"{value!r} is not of the form 96 or 96x128.", param, ctx)
        return sides[0], sides[-1]


class Several(click.ParamType):
    """Values of one type between commas."""

    def __init__(self, kind: type) -> None:
        self.name = "X,X,..."
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> list[Any]:
        """Returns `[2, 128]` for `"2,128"`."""
        try:
            return [self._kind(part.strip()) for part in value.split(",")]
        except ValueError:
            self.fail(
                f"{value!r} is no list of {self._kind.__name__} values between commas.",
                param,
                ctx,
            )


class Argument(click.ParamType):
    """An argument of a network's builder."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Returns `("alpha", 0.5)` for `"alpha=0.5"`; what is no JSON is a word."""
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"{value!r} is not of the form alpha=0.5.", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text
