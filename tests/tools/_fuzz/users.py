"""Quantizers and signs that users write themselves: right ones, and almost right.

What is right calls Larq's sign inside, where the oracle sees how near 0 its input is.
"""

from __future__ import annotations

import functools

import larq as lq
import tensorflow as tf
from deploy.generated_layers import one_of
from larq_nobn._keras import keras

layers = keras.layers


@tf.custom_gradient
def straight_through(x):
    return lq.math.sign(x), lambda upstream: upstream


def spelled(x):
    return 2.0 * tf.cast(lq.math.sign(x) > 0, x.dtype) - 1.0


class Called:
    """A quantizer that is no layer."""

    def __call__(self, x):
        return lq.math.sign(2.0 * x)


@keras.utils.register_keras_serializable("fuzz")
class OwnSign(lq.quantizers.Quantizer):
    """A quantizer that declares its precision."""

    precision = 1

    def call(self, inputs):
        return spelled(inputs)


@keras.utils.register_keras_serializable("fuzz")
class SignLayer(layers.Layer):
    """A layer that declares nothing."""

    def call(self, inputs):
        return straight_through(inputs)


def almost(x):
    return tf.sign(x)


def above(x):
    return tf.where(x > 0, tf.ones_like(x), -tf.ones_like(x))


def halved(x):
    return 0.5 * lq.math.sign(x)


def mean_sign(x):
    return tf.reduce_mean(tf.abs(x), [0, 1], keepdims=True) * lq.math.sign(x)


_RIGHT = (
    lambda: straight_through,
    lambda: spelled,
    lambda: functools.partial(lq.quantizers.ste_sign, clip_value=1.5),
    Called,
    OwnSign,
    SignLayer,
)
_ALMOST = (lambda: almost, lambda: halved)


def input_quantizer(draw):
    return one_of(draw, (*_RIGHT * 2, *_ALMOST, lambda: above))()


def kernel_quantizer(draw):
    return one_of(draw, (*_RIGHT, *_ALMOST, lambda: mean_sign))()


def sign(draw):
    """A layer that is a sign, and one that is almost one."""
    function = one_of(draw, (straight_through, spelled, almost, above))
    kinds = (
        lambda: layers.Activation(function),
        lambda: layers.Lambda(function),
        OwnSign,
        SignLayer,
    )
    return one_of(draw, kinds)()
