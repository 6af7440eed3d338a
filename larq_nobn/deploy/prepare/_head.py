"""What a symmetric head is at inference, where its class vectors are constants."""

from __future__ import annotations

from ..._keras import keras
from ...graph import Call
from ...layers import SymmetricHead


def plain_head(call: Call) -> keras.layers.Dense | None:
    """The dense layer whose kernel is made of the class vectors."""
    layer = call.layer
    if type(layer) is not SymmetricHead:
        return None
    vectors = keras.initializers.Constant(layer.class_vectors().numpy())
    return keras.layers.Dense(
        layer.classes, use_bias=False, kernel_initializer=vectors, name=call.name
    )
