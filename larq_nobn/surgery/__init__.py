"""Tools that take batch norm out of an existing model, or look after its statistics."""

from ..graph import ModelError
from ._fold import fold_batch_norm
from ._freeze import freeze_statistics
from ._freeze_report import FreezeReport, FrozenLayer
from ._reestimate import reestimate_batch_norm
from ._remove import remove_batch_norm
from ._report import Change, SurgeryReport

__all__ = [
    "Change",
    "FreezeReport",
    "FrozenLayer",
    "ModelError",
    "SurgeryReport",
    "fold_batch_norm",
    "freeze_statistics",
    "reestimate_batch_norm",
    "remove_batch_norm",
]
