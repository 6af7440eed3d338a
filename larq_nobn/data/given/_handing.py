"""Under which name, and for how long, handed-over images are a data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from ._arrays import Given
from ._name import GIVEN
from ._streams import Streams

_current: ContextVar[Given | Streams | None] = ContextVar(GIVEN, default=None)


@contextmanager
def handed_over(data: tuple[Any, ...] | None) -> Iterator[None]:
    """Makes `"given"` the name of what was handed over, within the block.

    Arguments:
        data: Training and test images, or training, validation and test images: each
            (images, labels) as arrays, or each a `tf.data.Dataset`; None to change
            nothing.

    Raises:
        TypeError, ValueError: If it is something else.
    """
    if data is None:
        yield
        return
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError(
            f"data of type {type(data).__name__} is no pair. Give (train, test) or "
            "(train, validation, test): each a tf.data.Dataset, or (images, labels)."
        )
    kinds = {isinstance(part, tf.data.Dataset) for part in data}
    if len(kinds) > 1:
        raise TypeError(
            "data holds a tf.data.Dataset beside arrays. Give all of the same kind."
        )
    names = ("train", "validation", "test")[:: 2 if len(data) == 2 else 1]
    parts = dict(zip(names, data, strict=True))
    token = _current.set(Streams(**parts) if kinds == {True} else Given(**parts))
    try:
        yield
    finally:
        _current.reset(token)


def given() -> Given | Streams:
    """What was handed over.

    Raises:
        ValueError: If nothing was.
    """
    found = _current.get()
    if found is None:
        raise ValueError(
            "The images were given to train as data=, and are stored nowhere. Name a "
            "data set or a folder of pictures instead, as by --dataset."
        )
    return found
