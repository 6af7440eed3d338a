"""Lambdas and operators are copied as they compute, whatever they are called on."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._models import flattened
from numpy.testing import assert_allclose, assert_array_equal

layers = keras.layers
X = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
FACTORS = np.arange(6, dtype=np.float32)


def sums(x):
    return tf.concat(values=[x, 2.0 * x, x], axis=-1)


def last_half(x):
    return x[:, tf.shape(x)[1] // 2 :, ..., ::2]


def numbers(x):
    return FACTORS - x * FACTORS


# Functions of Keras' tensors, each with what it computes in NumPy.
OPERATORS = {
    sums: lambda x: np.concatenate([x, 2 * x, x], axis=-1),
    last_half: lambda x: x[:, 2:, ::2],
    numbers: lambda x: FACTORS - x * FACTORS,
}


def copied(make):
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, make(inputs))
    nodes = [(layer.name, len(layer.inbound_nodes)) for layer in model.layers]
    copy = flattened(model)
    assert [(layer.name, len(layer.inbound_nodes)) for layer in model.layers] == nodes
    assert [layer.name for layer in copy.layers] == [name for name, _ in nodes]
    assert not {id(x) for x in model.layers} & {id(x) for x in copy.layers}
    return copy


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda f: f.__name__)
def test_operators_are_called_again_with_all_of_their_arguments(operator):
    actual = copied(operator)(X)
    assert_allclose(actual, OPERATORS[operator](X), rtol=1e-5, atol=1e-6)


class Scale:
    """Something whose method a Lambda calls."""

    def __init__(self, factor):
        self.factor = factor

    def times(self, x):
        return self.factor * x

    def __call__(self, x):
        return self.factor - x


def remote(x, by, training=None):
    return x + by + (100.0 if training else 0.0)


def minus(factor):
    scale = Scale(factor)
    return lambda x: scale(x)


LAMBDAS = {
    "closure": (lambda: layers.Lambda(minus(2)), lambda x: 2 - x),
    "method": (lambda: layers.Lambda(Scale(3).times), lambda x: 3 * x),
    "partial": (
        lambda: layers.Lambda(partial(tf.reduce_sum, axis=1)),
        lambda x: x.sum(1),
    ),
    "arguments": (
        lambda: layers.Lambda(remote, arguments={"by": 4.0}),
        lambda x: x + 4,
    ),
}


@pytest.mark.parametrize("name", LAMBDAS)
def test_a_lambda_keeps_its_function(name):
    make, oracle = LAMBDAS[name]
    copy = copied(lambda x: make()(x))
    assert_allclose(copy(X), oracle(X), rtol=1e-5, atol=1e-6)


def test_a_lambda_keeps_its_outputs_mask_and_precision():
    def parts(x):
        return {"b": x[..., :2], "a": (x[..., 2:], tf.reduce_sum(x, -1))}

    with dtype_policy("mixed_float16"):
        own = layers.Lambda(parts, name="own", mask=lambda x, m: None, trainable=False)
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, own(inputs))
    copy = flattened(model)
    new = copy.get_layer("own")
    assert (new.compute_dtype, new.trainable) == ("float16", False)
    assert new.supports_masking and new.mask is own.mask
    tf.nest.map_structure(assert_array_equal, copy(X), model(X))
