"""A rotation by which TensorFlow pads on the sides where PyTorch does."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import keras, register
from .._larq import lq
from ..graph import _graph, _models, _operation


@register()
class HalfTurn(keras.layers.Layer):
    """Rotates images by 180 degrees: y[i, j] = x[-1 - i, -1 - j].

    For a convolution of stride 2 on a map of even size, the number of rows of padding
    is odd. PyTorch adds the additional row above and left, TensorFlow below and right.
    If image and kernels are rotated, TensorFlow's padding is where PyTorch's was. The
    whole network then computes the same as in PyTorch, with ordinary convolutions, for
    the cost of one rotation of the image.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reverse(inputs, [1, 2])


def as_in_pytorch(model: keras.Model, image_size: tuple[int, int]) -> keras.Model:
    """Rebuilds a network with PyTorch's padding, for another size of images.

    The network must read its input once and end in global pooling. The size changes
    here, since the stem depends on it in our builders, but not in PyTorch's code.
    """

    def make(call: _graph.Call, inputs: list[Any]) -> Any:
        padded = isinstance(call.layer, lq.layers.QuantConv2D)
        changes: dict[str, Any] = {"pad_values": 0.0} if padded else {}
        layer = _operation.rebuild(call.layer, name=call.name, **changes)
        return _models.run_call(call, layer, inputs)

    image = keras.Input((*image_size, model.input_shape[-1]), name="image")
    ends = _models.rerun(_graph.Graph(model), [HalfTurn(name="turn")(image)], make)
    return keras.Model(image, ends[0], name=model.name)
