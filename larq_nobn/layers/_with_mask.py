from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import keras, register


@register()
class WithMask(keras.layers.Layer):
    """Returns its first input with the mask of its second; of one input, without any.

    Keras hands masks on from layer to layer. A layer that is rewritten as others may
    lose one, or keep one that it lost before; this restores it.

    Arguments:
        **kwargs: Keras layer arguments.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._autocast = False

    def call(self, inputs: Any) -> tf.Tensor:
        # Another tensor: Keras would note the mask at the given one.
        return tf.identity(inputs[0] if isinstance(inputs, (list, tuple)) else inputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[1] if isinstance(mask, (list, tuple)) else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0] if isinstance(input_shape, list) else input_shape
