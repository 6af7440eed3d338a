"""Networks: functional Keras models whose final layer is called `head`."""

from collections.abc import Callable

from .._keras import keras
from ._normalizers import BATCH_STATISTICS, NORMALIZATIONS
from ._reactnet import ReActNet18

BUILDERS: dict[str, Callable[..., keras.Model]] = {"ReActNet18": ReActNet18}

__all__ = ["BATCH_STATISTICS", "BUILDERS", "NORMALIZATIONS", "ReActNet18"]
