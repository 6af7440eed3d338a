"""What conversion says when it stops."""

from __future__ import annotations

from .._errors import InvalidValue


class ConversionError(InvalidValue):
    """A model that cannot be converted, or a file that cannot be read or written."""


class UnreadableError(ConversionError):
    """A model of which some part does not show what it is made of."""


class VerificationError(ConversionError):
    """A converted file that does not compute what the given model computes."""
