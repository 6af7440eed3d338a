"""The command `larq-nobn`."""

from ._main import main

__all__ = ["main"]
