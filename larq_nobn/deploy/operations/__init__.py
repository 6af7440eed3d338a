"""A model as operations, lowered from its trace, and local rules that merge them."""

from ._emit import function_of
from ._lower import lower
from ._program import Program, Value
from ._rules import optimized

__all__ = ["Program", "Value", "function_of", "lower", "optimized"]
