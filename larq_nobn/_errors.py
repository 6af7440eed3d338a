"""What a user can repair.

The message says what was given, what is allowed, and what to do. The command line
prints it as a sentence; any other error is shown as a fault of the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """The base of all errors that the package raises for what it is given."""

    # By this TensorFlow keeps the class of what is raised in a graph.
    __init__ = Exception.__init__


class InvalidValue(UserError, ValueError):
    """A value that is not allowed, or a file with wrong content."""


class InvalidType(UserError, TypeError):
    """An argument of a type that is not allowed."""


class MissingPackage(UserError, ImportError):
    """A package that has to be installed for what is asked."""


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Imports what an extra of the package brings, or says how to install it.

    The sentence starts with `what`, such as `"Images need Pillow"`.
    """
    try:
        yield
    except ImportError as error:
        raise MissingPackage(
            f"{what} ({error}). Install it with: pip install 'larq-nobn[{extra}]'"
        ) from error


class InternalError(RuntimeError):
    """A fault of the package, with the layer at which it showed."""
