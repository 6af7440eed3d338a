"""Whether functions and classes of the user's are signs, seen from what they give."""

import larq as lq
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.graph._signs import bits_of, bits_of_users, is_binary, sign_of_layer


@tf.custom_gradient
def straight_through(x):
    return tf.sign(x) + tf.cast(x == 0, x.dtype), lambda upstream: upstream


class Declared(lq.quantizers.Quantizer):
    precision = 1

    def call(self, inputs):
        return tf.where(inputs >= 0, 1.0, -1.0)


class Alone(keras.layers.Layer):
    def call(self, inputs):
        return lq.math.sign(3.0 * inputs)


SIGNS = {
    "straight through": straight_through,
    "lambda": lambda x: lq.quantizers.approx_sign(x),
    "declared": Declared(),
    "layer": Alone(),
    "per channel": lambda x: lq.math.sign(x * tf.constant([1.0, 2.0, 5.0])),
}


def steep(x):
    return tf.where(x == 0, 1.0, tf.clip_by_value(1e6 * x, -1.0, 1.0))


def among_others(x):
    more = tf.roll(x, 1, 0) if x.shape[-1] > 1 else 0.0
    return lq.math.sign(x - more)


OTHERS = {
    "gives 0 at 0": tf.sign,
    "gives 1e-24 at 1e-30": steep,
    "gives 1 at -1e-30": lambda x: tf.where(x > -0.3, 1.0, -1.0),
    "gives 0.5 at 0": lambda x: 0.5 * lq.math.sign(x),
    "gives signs that depend on more than each number": among_others,
    "cannot be called on numbers alone": lambda x: tf.reshape(x, (3, 7)),
}
FLOAT = (tf.tanh, tf.nn.elu, lambda x: tf.clip_by_value(x, -1.0, 1.0))


@pytest.mark.parametrize("name", SIGNS)
def test_what_gives_signs_of_any_number_is_a_sign(name):
    assert bits_of_users(SIGNS[name]) == 1


def test_a_sign_that_is_negative_at_0_is_one_of_its_own():
    above = keras.layers.Lambda(lambda x: tf.where(x > 0, 1.0, -1.0))
    assert bits_of_users(above) == 1 and sign_of_layer(above) is above


def test_a_step_is_a_step():
    step = keras.layers.Activation(lambda x: tf.cast(x > 0, tf.float32))
    assert bits_of_users(sign_of_layer(step)) == 1
    assert bits_of_users(lambda x: tf.cast(x >= 0, tf.float32)) == 2


@pytest.mark.parametrize("name", OTHERS)
def test_what_gives_signs_of_most_numbers_is_none(name):
    assert bits_of_users(OTHERS[name]) == 2
    assert bits_of(OTHERS[name]) == 2 and not is_binary(OTHERS[name])


@pytest.mark.parametrize("function", FLOAT)
def test_what_gives_more_than_a_few_numbers_is_float(function):
    assert bits_of_users(function) == 32
    assert bits_of(function) == 32
