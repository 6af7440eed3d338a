"""Small networks of the shapes that published ones have, for surgery to be tried on.

Each is built from plain Keras and Larq layers, as users build theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import larq as lq
import tensorflow as tf
from larq_nobn._keras import keras
from surgery.parts import (
    binary,
    conv,
    head,
    image_input,
    norm,
    settled,
    shortcut,
    stem,
    strides,
)

layers = keras.layers


@lq.utils.register_keras_custom_object
@lq.utils.set_precision(1)
def magnitude_times_sign(x):
    """A kernel quantizer that is not a class: sign times magnitude, as in XNOR-Net."""
    x = tf.clip_by_value(x, -1.0, 1.0)
    return tf.reduce_mean(tf.abs(x), axis=(0, 1, 2)) * lq.quantizers.ste_sign(x)


@lq.utils.register_keras_custom_object
class ChannelRescale(layers.Layer):
    """A layer that only its author knows: a learned factor per channel."""

    def build(self, input_shape):
        self.factor = self.add_weight("factor", (input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


def quick_net(image):
    x = stem(image, 8, pool=False)
    x = layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x)
    x = norm(x, scale=False, center=False)
    x = norm(conv(x, 16, 1))
    for filters in (16, 24):
        if filters != x.shape[-1]:
            x = layers.MaxPool2D(2, 1)(layers.Activation("relu")(x))
            x = layers.DepthwiseConv2D(
                3,
                2,
                padding="same",
                use_bias=False,
                trainable=False,
                depthwise_initializer=keras.initializers.Constant(1 / 9),
            )(x)
            x = norm(conv(x, filters, 1))
        y = binary(x, filters, pad_values=1.0, activation="relu")
        x = layers.add([norm(y, momentum=0.9, epsilon=1e-5), x])
    return head(x)


def bi_real_net(image):
    x = stem(image, 8)
    for filters in (16, 16):
        y = binary(
            x,
            filters,
            strides=strides(x, filters),
            input_quantizer="approx_sign",
            kernel_quantizer="magnitude_aware_sign",
        )
        x = layers.add([norm(y, momentum=0.8), shortcut(x, filters)])
    return head(x)


def res_net_e(image):
    # The batch norm after the pool feeds a sign and a shortcut.
    x = norm(stem(image, 8), momentum=0.9)
    for filters in (8, 16):
        y = binary(x, filters, strides=strides(x, filters))
        x = layers.add([norm(y, momentum=0.9), shortcut(x, filters)])
    return head(x)


def gate(x, filters):
    """Squeeze and excite: a factor per channel, made from the whole map."""
    y = layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(x))
    return layers.Reshape((1, 1, filters))(layers.Dense(filters, "sigmoid")(y))


def real_to_binary(image):
    x = stem(image, 8)
    for filters in (8, 16):
        y = norm(x)
        z = binary(y, filters, strides=strides(x, filters))
        z = layers.multiply([z, gate(y, filters)])
        z = layers.PReLU(shared_axes=[1, 2])(z)
        x = layers.add([z, shortcut(x, filters)])
    return head(x)


def _grow(x, **kwargs):
    sign = lq.quantizers.SteSign(clip_value=1.3)
    kernel = {
        "input_quantizer": sign,
        "kernel_quantizer": lq.quantizers.SteSign(clip_value=1.3),
        "kernel_constraint": lq.constraints.WeightClip(clip_value=1.3),
    }
    return binary(norm(x, momentum=0.9, epsilon=1e-5), 8, **kernel, **kwargs)


def melius_net(image):
    """Dense blocks, one of them dilated, and a block that improves what one adds."""
    x = stem(image, 8)
    x = layers.concatenate([x, _grow(x, dilation_rate=2)])
    x = layers.Activation("relu")(layers.MaxPool2D(2)(norm(x)))
    x = conv(x, 16, 1)
    x = layers.concatenate([x, _grow(x)])
    y, by = _grow(x), x.shape[-1] - 8
    x = layers.add([x, tf.pad(y, [[0, 0]] * 3 + [[by, 0]])])
    return head(norm(x))


def xnor_net(image):
    kernel = {"kernel_quantizer": magnitude_times_sign}
    x = norm(layers.Conv2D(8, 5, padding="same", use_bias=False)(image), scale=False)
    x = layers.MaxPool2D(3, 2)(layers.Activation("relu")(x))
    x = layers.MaxPool2D(3, 2, padding="same")(
        binary(norm(x, scale=False), 8, **kernel)
    )
    x = binary(norm(x, scale=False), 16, 4, padding="valid", **kernel)
    x = binary(norm(x, scale=False), 16, 1, **kernel)
    x = layers.Flatten()(layers.Activation("relu")(norm(x)))
    return layers.Dense(5)(x)


def binary_alex_net(image):
    """The last batch norm makes the logits."""
    # Its first kernel is binary, its first input is not.
    x = norm(binary(image, 8, 5, strides=2, input_quantizer=None), scale=False)
    x = norm(layers.MaxPool2D(2)(binary(x, 16)), scale=False)
    dense = {
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
    }
    x = layers.Flatten()(x)
    for units in (24, 5):
        x = norm(lq.layers.QuantDense(units, use_bias=False, **dense)(x), scale=False)
    return x


@dataclass(frozen=True)
class Subject:
    """A network and what is known of it.

    Arguments:
        network: From an image to the output.
        norms: How many batch norms it has, counted by hand.
        binary: How many binary convolutions LCE should find; None if convert has
            no such kernel.
    """

    network: Callable[[Any], Any]
    norms: int
    binary: int | None

    def __call__(self, seed: int = 0, zero: bool = False) -> keras.Model:
        keras.utils.set_random_seed(seed)
        image = image_input()
        name = self.network.__name__
        return settled(keras.Model(image, self.network(image), name=name), seed, zero)


ZOO = (
    Subject(quick_net, 6, 2),
    Subject(bi_real_net, 4, 2),
    Subject(res_net_e, 5, 2),
    Subject(real_to_binary, 4, 2),
    Subject(melius_net, 6, 3),
    Subject(xnor_net, 5, 3),
    Subject(binary_alex_net, 4, None),
)
