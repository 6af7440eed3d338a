"""The exceptions of conversion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._errors import InvalidValue
from ..graph import _errors


class ConversionError(InvalidValue):
    """A model that cannot be converted, or a file that cannot be read or written."""


class UnreadableError(ConversionError):
    """A model with a part whose operations cannot be read from its layers."""


class VerificationError(ConversionError):
    """A converted file that does not compute what the given model computes."""


@contextmanager
def conversion_errors() -> Iterator[None]:
    """Raises errors about a model's graph as `ConversionError`, in the same words."""
    try:
        yield
    except _errors.ModelError as error:
        raise ConversionError(str(error)) from error
