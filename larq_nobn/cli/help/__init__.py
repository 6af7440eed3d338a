"""How `--help` looks."""

from ._groups import Grouped

__all__ = ["Grouped"]
