"""Which functions compute the same on a map as on a vector or a sequence."""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from ...._keras import keras

_keras = keras.activations
# Elementwise, or over the last axis, that of the channels.
_ANY_RANK = (
    *(_keras.linear, _keras.relu, _keras.tanh, _keras.sigmoid, _keras.hard_sigmoid),
    *(_keras.swish, _keras.mish, _keras.gelu, _keras.elu, _keras.selu),
    *(_keras.exponential, _keras.softplus, _keras.softsign, _keras.softmax),
    *(lq.activations.hard_tanh, lq.activations.leaky_tanh),
    *(tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu, tf.nn.tanh, tf.nn.sigmoid),
    *(tf.nn.swish, tf.nn.gelu, tf.nn.elu, tf.nn.selu, tf.nn.softplus),
    *(tf.nn.softsign, tf.nn.softmax, tf.nn.log_softmax),
    *(tf.abs, tf.square, tf.exp, tf.identity),
)


def takes_any_rank(function: Any) -> bool:
    """Whether an activation is known to treat a map as it would treat its rows.

    What another function does depends on the axes that it counts from the front.
    """
    return any(function is known for known in _ANY_RANK)
