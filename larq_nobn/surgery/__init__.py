"""Removes batch norm from existing models, or updates its statistics."""

from ..graph._errors import ModelError
from ._fold import fold_batch_norm
from ._freeze import freeze_statistics
from ._reestimate import reestimate_batch_norm
from ._remove import remove_batch_norm
from ._report import Change, FrozenLayer, SurgeryReport

__all__ = [
    "Change",
    "FrozenLayer",
    "ModelError",
    "SurgeryReport",
    "fold_batch_norm",
    "freeze_statistics",
    "reestimate_batch_norm",
    "remove_batch_norm",
]
