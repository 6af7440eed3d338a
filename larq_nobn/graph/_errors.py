"""What is said where a model cannot be read, and where this package itself fails.

A reason is raised by name, a `ModelError`. Code of a user's, such as a layer or a
quantizer, may raise anything: `raised_by` stands around each place that calls some, and
says what it raised. Whatever else is raised is a fault of this package, and is no
reason for anything.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from .._errors import InternalError, InvalidValue, UserError
from .._keras import keras
from .._messages import first_line

# Of the machine, and of no fault of the model.
OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)
_LAYER = re.compile(r"encountered when calling layer ['\"](.*?)['\"]")


class ModelError(InvalidValue):
    """A model, or a layer of one, that this package cannot take apart."""


class LayerError(ModelError):
    """Something that a user's code raised, in the words of a message."""


def internal_error(where: str, error: BaseException) -> InternalError | None:
    """Returns what to raise where code of this package failed, and not by a reason."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    frames = [frame for frame, _ in traceback.walk_tb(first.__traceback__)]
    if isinstance(first, UserError) or not frames:
        return None
    module = str(frames[-1].f_globals.get("__name__"))
    if module.partition(".")[0] != __name__.partition(".")[0]:
        return None
    said = first_line(error).rstrip(".")
    return InternalError(
        f"{where} failed with {type(error).__name__}: {said}. This is a fault of "
        "larq_nobn, not of the model: please report it, with the whole traceback."
    )


@contextmanager
def raised_by(
    part: Any, what: str, advice: str = "", kind: type[Exception] = LayerError
) -> Iterator[None]:
    """Says of what a user's code raises which code that was.

    What this package says in its own words passes as it is, and so does what is wrong
    with the machine. A layer that only rewrites make is none of the user's.

    Arguments:
        part: The layer, model, quantizer or function that the block calls, or the name
            of a model.
        what: What it cannot: "cannot be called".
        advice: What to do, as a sentence; empty for none.
        kind: The class of the error.

    Raises:
        LayerError: If it raises an error.
    """
    try:
        yield
    except (ModelError, InternalError, *OF_MEMORY):
        raise
    except Exception as error:  # a user's code may raise anything
        named, kind_of = _described(part), type(error).__name__
        # Of a model, Keras says in which layer.
        inner = _LAYER.findall(str(error))[-1:]
        if inner and inner != [getattr(part, "name", "")]:
            kind_of += f" in layer {inner[0]!r}"
        said = first_line(error).rstrip(".")
        raise kind(
            f"{named} {what}: it raised {kind_of}: {said}." + f" {advice}".rstrip()
        ) from error


def _described(part: Any) -> str:
    kind = type(part).__name__
    if isinstance(part, str):
        return f"Model {part!r}"
    if isinstance(part, keras.Model):
        return f"Model {part.name!r}"
    if isinstance(part, keras.layers.Layer):
        return f"Layer {part.name!r} ({kind})"
    return f"The function {getattr(part, '__name__', kind)!r}"
