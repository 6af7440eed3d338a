"""Builders that differ from another one only by numbers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .._keras import keras

_Builder = Callable[..., keras.Model]


def like(builder: _Builder, **defaults: Any) -> Callable[[_Builder], _Builder]:
    """Gives a function the arguments of another builder, with other defaults.

    The function gets all of them by name. The default of `name` is its own name in
    lower case.
    """
    theirs = inspect.signature(inspect.unwrap(builder))

    def decorated(build: _Builder) -> _Builder:
        own = {"name": build.__name__.lower(), **defaults}
        signature = theirs.replace(
            parameters=[
                p.replace(default=own.get(p.name, p.default))
                for p in theirs.parameters.values()
            ]
        )

        @functools.wraps(build)
        def variant(*arguments: Any, **options: Any) -> keras.Model:
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            return build(**bound.arguments)

        variant.__signature__ = signature  # type: ignore[attr-defined]  # of functions it may be set
        return variant

    return decorated
