"""The rotation that makes TensorFlow's padding fall where PyTorch's does."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import keras, register
from .._larq import lq
from ..graph import _graph, _models, _operation


@register()
class HalfTurn(keras.layers.Layer):
    """Rotates images by 180 degrees: y[i, j] = x[-1 - i, -1 - j].

    A convolution of stride 2 on a map of even size has an odd number of rows of padding
    to place. PyTorch puts the additional one above and left, TensorFlow below and
    right. On rotated images, with kernels rotated too, below and right is what was
    above and left: the whole network then computes what it did in PyTorch, in
    convolutions that every backend knows, at the cost of one rotation of the image.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reverse(inputs, [1, 2])


def as_in_pytorch(model: keras.Model, image_size: tuple[int, int]) -> keras.Model:
    """Builds a network again, padded with zeros, above and left where sizes are even.

    It reads its input once, which has another size from now on, and ends in global
    pooling: the stem of our builders follows from the size, that of PyTorch code does
    not.
    """

    def make(call: _graph.Call, given: list[Any]) -> Any:
        padded = isinstance(call.layer, lq.layers.QuantConv2D)
        changes: dict[str, Any] = {"pad_values": 0.0} if padded else {}
        layer = _operation.rebuild(call.layer, name=call.name, **changes)
        return _models.run_call(call, layer, given)

    image = keras.Input((*image_size, model.input_shape[-1]), name="image")
    ends = _models.rerun(_graph.Graph(model), [HalfTurn(name="turn")(image)], make)
    return keras.Model(image, ends[0], name=model.name)
