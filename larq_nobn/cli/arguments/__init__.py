"""How options are read from the command line, and shown by `--help`."""

from ._groups import Grouped
from ._types import Argument, Blocks, Several, Size

__all__ = ["Argument", "Blocks", "Grouped", "Several", "Size"]
