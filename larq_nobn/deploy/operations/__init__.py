"""A model as a program of operations, and local rules that merge them."""

from ._emit import outputs_of
from ._lower import lower
from ._stages import Stages, stages_of

__all__ = ["Stages", "lower", "outputs_of", "stages_of"]
