"""A model as operations, lowered from its trace, and local rules that merge them."""

from ._emit import outputs_of
from ._lower import Int8Trace, LoweredTrace, lower

__all__ = ["Int8Trace", "LoweredTrace", "lower", "outputs_of"]
