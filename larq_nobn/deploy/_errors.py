"""What conversion says when it stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._errors import InvalidValue
from ..graph import _errors


class ConversionError(InvalidValue):
    """A model that cannot be converted, or a file that cannot be read or written."""


class UnreadableError(ConversionError):
    """A model of which some part does not show what it is made of."""


class VerificationError(ConversionError):
    """A converted file that does not compute what the given model computes."""


@contextmanager
def conversion_errors() -> Iterator[None]:
    """Makes what is said of a graph a `ConversionError`, in the same words."""
    try:
        yield
    except _errors.ModelError as error:
        raise ConversionError(str(error)) from error
