"""The turn that makes TensorFlow's padding fall where PyTorch's does."""

from __future__ import annotations

import tensorflow as tf

from .._keras import keras, register


@register()
class HalfTurn(keras.layers.Layer):
    """Turns images upside down and back to front: y[i, j] = x[-1 - i, -1 - j].

    A convolution of stride 2 on a map of even size has an odd number of rows of padding
    to place. PyTorch puts the additional one above and left, TensorFlow below and
    right. On turned images, with kernels turned too, below and right is what was above
    and left: the whole network then computes what it did in PyTorch, in convolutions
    that every backend knows, and a turn of the image is all it costs.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reverse(inputs, [1, 2])

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)


def from_the_first(x: tf.Tensor, name: str) -> tf.Tensor:
    """A turned map of which a 1x1 convolution of stride 2 takes what PyTorch takes.

    PyTorch starts with the first position, which on turned maps is the last.
    """
    crop = [(1 - size % 2, 0) for size in x.shape[1:3]]
    return keras.layers.Cropping2D(crop, name=name)(x)
