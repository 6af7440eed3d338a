"""What conversion says when it stops."""

from __future__ import annotations


class ConversionError(ValueError):
    """A model that cannot be converted, or a file that cannot be read or written."""


class VerificationError(ConversionError):
    """A converted file that does not compute what the given model computes."""
