"""The networks that a run can train."""

from __future__ import annotations

from collections.abc import Callable

from ... import models
from ..._keras import keras
from ..._names import FLOAT_MODEL
from ._float_resnet import float_resnet

# A float network is none of the models of this package, but teaches them.
NETWORKS: dict[str, Callable[..., keras.Model]] = {
    **models.BUILDERS,
    FLOAT_MODEL: float_resnet,
}
# Those whose signs and activations have shifts under every normalization.
SHIFTED = frozenset({"ReActNet18", "ReActNetA"})
# Those whose norm stands before signs. Their binary kernels start from Keras' default,
# and those of the others behind a norm within 0.001.
NORM_FIRST = frozenset(
    {
        "XNORNet18",
        *("BinaryDenseNet28", "BinaryDenseNet37", "BinaryDenseNet45"),
        *("MeliusNet22", "MeliusNet29"),
    }
)
