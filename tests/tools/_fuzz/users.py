"""Quantizers and signs that users write themselves: right ones, and almost right.

What is right calls Larq's sign inside, where the oracle sees how near 0 its input is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras

layers = keras.layers
Draw = np.random.Generator


def chance(draw: Draw, probability: float) -> bool:
    return bool(draw.random() < probability)


def one_of(draw: Draw, options: Sequence[Any]) -> Any:
    return options[draw.integers(len(options))]


@tf.custom_gradient
def straight_through(x):
    return lq.math.sign(x), lambda upstream: upstream


def spelled(x):
    return 2.0 * tf.cast(lq.math.sign(x) > 0, x.dtype) - 1.0


def almost(x):
    return tf.sign(x)


def subtracted(x):
    return x + tf.stop_gradient(lq.math.sign(x) - x)


def of_clip(x):
    c = tf.clip_by_value(x, -1.0, 1.0)
    return tf.stop_gradient(lq.math.sign(x)) - tf.stop_gradient(c) + c


def of_zero_one(x):
    return tf.stop_gradient(tf.cast(lq.math.sign(x) > 0, x.dtype) - x) + x


def apart(x):
    """Each channel has a threshold of its own."""
    return tf.where(x >= tf.linspace(-0.3, 0.3, x.shape[-1]), 1.0, -1.0)


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


def _mean_sign(x):
    return tf.reduce_mean(tf.abs(x), [0, 1], keepdims=True) * lq.math.sign(x)


def _tanh_gradient(x):
    return tf.stop_gradient(lq.math.sign(x) - tf.tanh(x)) + tf.tanh(x)


def _above(x):
    return tf.where(x > 0, tf.ones_like(x), -tf.ones_like(x))


_RIGHT = (
    lambda: straight_through,
    lambda: spelled,
    lambda: functools.partial(lq.quantizers.ste_sign, clip_value=1.5),
    Called,
    OwnSign,
    SignLayer,
    lambda: subtracted,
    lambda: of_clip,
    lambda: of_zero_one,
)
_ALMOST = (
    almost,
    _above,
    lambda x: lq.math.sign(x - tf.reduce_mean(x, -1, keepdims=True)),
    lambda x: 0.5 * lq.math.sign(x),
    tf.quantization.fake_quant_with_min_max_args,
    lambda x: tf.cast(lq.math.sign(-x) < 0, x.dtype),
    _tanh_gradient,
    apart,
    lambda x: x + tf.stop_gradient(tf.round(tf.clip_by_value(x, 0.0, 1.0)) - x),
)


def input_quantizer(draw):
    right = chance(draw, 0.6)
    return one_of(draw, _RIGHT)() if right else one_of(draw, _ALMOST)


def kernel_quantizer(draw):
    right = chance(draw, 0.7)
    return one_of(draw, _RIGHT)() if right else one_of(draw, (_mean_sign, *_ALMOST))


def sign(draw):
    """A layer that is a sign, and one that is almost one."""
    functions = (straight_through, spelled, _tanh_gradient, almost, _above)
    functions += (subtracted, of_clip, of_zero_one, apart)
    function = one_of(draw, functions)
    kinds = (
        lambda: layers.Activation(function),
        lambda: layers.Lambda(function),
        lambda: layers.Lambda(lambda x: lq.math.sign(x)),
        OwnSign,
        SignLayer,
    )
    return one_of(draw, kinds)()
