"""Errors that a user can repair.

The message says what was given, what is allowed, and what to do. The command line
prints the message; any other error is shown as a bug of the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """The base of all errors of this package for wrong input."""

    # With this, TensorFlow keeps the class of an error that is raised in a graph.
    __init__ = Exception.__init__


class InvalidValue(UserError, ValueError):
    """A value that is not allowed, or a file with wrong content."""


class InvalidType(UserError, TypeError):
    """An argument of a type that is not allowed."""


class MissingPackage(UserError, ImportError):
    """A required optional package is not installed."""


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Tells how to install an extra if an import in the block fails.

    The message starts with `what`, such as `"Images need Pillow"`.
    """
    try:
        yield
    except ImportError as error:
        raise MissingPackage(
            f"{what} ({error}). Install it with: pip install 'larq-nobn[{extra}]'"
        ) from error


class InternalError(RuntimeError):
    """A bug of the package, with the layer where it appeared."""
