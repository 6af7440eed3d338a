"""Small look-alikes of what published networks do in Lambdas, operators and own layers.

What each opaque layer computes is also written in NumPy.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from surgery.parts import binary, conv, image_input, norm, settled
from surgery.subjects import ChannelRescale, gate

layers = keras.layers
SHAPE = (8, 8, 3)


def _head(x):
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def _function(function, name):
    return layers.Lambda(function, name=name)


def grouped(image):
    """Lambdas for a convolution in groups, and for blocks that grow or add channels."""
    groups, behind = 2, [[0, 0], [0, 0], [0, 0], [8, 0]]
    x = layers.ReLU()(norm(conv(image, 8)))
    parts = _function(lambda x: tf.split(x, groups, axis=-1), "split")(x)
    parts = [conv(part, 4, name=f"group_{i}") for i, part in enumerate(parts)]
    x = _function(lambda x: tf.concat(x, axis=-1), "join")(parts)
    x = layers.ReLU()(norm(x, name="behind_join"))
    x = _function(lambda x: tf.concat(x, axis=-1), "grow")([x, binary(norm(x), 8)])
    merge = _function(lambda x: x[0] + tf.pad(x[1], behind), "merge")
    x = merge([x, binary(norm(x), 8)])
    return _head(layers.ReLU()(norm(x, name="behind_merge")))


def scaled(image):
    """Squeeze and excite by a Lambda, and one that does nothing but have a name."""
    x = layers.ReLU()(norm(conv(image, 8)))
    for name in ("a", "b"):
        y = norm(x, name=f"shared_{name}")
        product = _function(lambda x: x[0] * x[1], f"scale_{name}")
        z = product([binary(y, 8), gate(y, 8)])
        z = layers.PReLU(shared_axes=[1, 2])(z)
        x = _function(lambda x: x, f"out_{name}")(layers.add([z, x]))
    return _head(layers.ReLU()(norm(x, name="last")))


def blurred(image):
    """Operators for layers, a dilation, a blurring pool and a layer of a user."""
    x = norm(conv(image, 8))
    y = binary(x, 8, pad_values=1.0, activation="relu", dilation_rate=2)
    x = norm(y, name="behind_binary") + x
    x = layers.MaxPool2D(2, 1)(tf.nn.relu(x))
    pool = {"use_bias": False, "trainable": False, "padding": "same"}
    blur = keras.initializers.Constant(1 / 9)
    x = layers.DepthwiseConv2D(3, 2, depthwise_initializer=blur, **pool)(x)
    x = norm(conv(x, 16, 1), name="behind_blur")
    left, right = tf.split(value=x, num_or_size_splits=2, axis=-1)
    x = tf.concat([2.0 * right, left[..., ::-1]], axis=-1)
    x = ChannelRescale(name="own")(binary(x, 16))
    return _head(tf.nn.relu(norm(x, name="behind_own")))


def network(build):
    keras.utils.set_random_seed(0)
    image = image_input(SHAPE)
    return settled(keras.Model(image, build(image), name=build.__name__))


def _gated(inputs):
    return inputs[0] * inputs[1]


# What the Lambdas compute.
ORACLES = {
    "split": lambda x: np.split(x, 2, axis=-1),
    "join": lambda x: np.concatenate(x, axis=-1),
    "grow": lambda x: np.concatenate(x, axis=-1),
    "merge": lambda x: x[0] + np.pad(x[1], [(0, 0), (0, 0), (0, 0), (8, 0)]),
    "scale_a": _gated,
    "scale_b": _gated,
    "out_a": lambda x: x,
    "out_b": lambda x: x,
}
