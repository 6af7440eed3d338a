"""Errors about models that cannot be read, about users' code, and about this package.

A known reason is raised as a `ModelError`. A user's code, such as a layer or a
quantizer, may raise anything: `raised_by` surrounds every call of such code, and names
the code in the error. Any other exception is a fault of this package.
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

# Errors of the machine, not of the model.
OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)
_LAYER = re.compile(r"encountered when calling layer ['\"](.*?)['\"]")


class ModelError(InvalidValue):
    """A model, or a layer of one, that this package cannot take apart."""


class LayerError(ModelError):
    """An error that a user's code has raised, with that code's name."""


def internal_error(where: str, error: BaseException) -> InternalError | None:
    """Returns an error for a fault of this package; None if the error has a reason."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    frames = [frame for frame, _ in traceback.walk_tb(first.__traceback__)]
    if isinstance(first, UserError) or not frames:
        return None
    module = str(frames[-1].f_globals.get("__name__"))
    if module.partition(".")[0] != __name__.partition(".")[0]:
        return None
    reason = first_line(error).rstrip(".")
    return InternalError(
        f"{where} failed with {type(error).__name__}: {reason}. This is a fault of "
        "larq_nobn, not of the model: please report it, with the whole traceback."
    )


@contextmanager
def raised_by(
    part: Any, what: str, advice: str = "", kind: type[Exception] = LayerError
) -> Iterator[None]:
    """Names the user's code that raises an error inside this block.

    Errors of this package pass unchanged, and so do those of the machine.

    Arguments:
        part: The layer, model, quantizer or function that the block calls, or the name
            of a model.
        what: What failed, such as "cannot be called".
        advice: What to do, as a sentence; '' for none.
        kind: The class of the error.

    Raises:
        LayerError: If the block raises an error.
    """
    try:
        yield
    except (ModelError, InternalError, *OF_MEMORY):
        raise
    except Exception as error:  # a user's code may raise anything
        named, kind_of = _described(part), type(error).__name__
        # Keras names the layer that raised within a model.
        inner = _LAYER.findall(str(error))[-1:]
        if inner and inner != [getattr(part, "name", "")]:
            kind_of += f" in layer {inner[0]!r}"
        reason = first_line(error).rstrip(".")
        raise kind(
            f"{named} {what}: it raised {kind_of}: {reason}." + f" {advice}".rstrip()
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
