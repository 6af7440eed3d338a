"""Functions over an axis counted from the front see the shape they were written for."""

import functools
from functools import partial

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import scrambled
from deploy.prepare.rewrites.oracle import (
    BINARY,
    converted,
    examples,
    expected,
    operations,
)
from larq_nobn._keras import keras
from larq_nobn.deploy import prepared
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert
VECTOR, SEQUENCE, MAP = (24,), (8, 6), (3, 3, 6)


def centered(x):
    return x - tf.reduce_mean(x, 1, keepdims=True)


def normalized(x):
    return tf.math.l2_normalize(x, axis=1)


def softmax(x):
    return tf.nn.softmax(x, axis=1) - 0.1


def backward(x):
    return tf.reverse(x, [1])


def by_rank(x):
    return x * float(x.shape.rank) - 5.0


def exponentials(x):
    return np.exp(x - x.max(axis=1, keepdims=True))


def norm(x):
    return np.sqrt(np.maximum((x**2).sum(axis=1, keepdims=True), 1e-12))


IN_NUMPY = {
    centered: lambda x: x - x.mean(axis=1, keepdims=True),
    normalized: lambda x: x / norm(x),
    softmax: lambda x: (
        exponentials(x) / exponentials(x).sum(axis=1, keepdims=True) - 0.1
    ),
    backward: lambda x: x[:, ::-1],
    by_rank: lambda x: x * x.ndim - 5.0,
}


@pytest.fixture(autouse=True)
def known_to_keras():
    with keras.utils.custom_object_scope({f.__name__: f for f in IN_NUMPY}):
        yield


def dense(units=8, **changes):
    return lq.layers.QuantDense(units, use_bias=False, **BINARY, **changes)


def conv1d(**changes):
    options = {"kernel_size": 3, "padding": "valid", **BINARY, **changes}
    return lq.layers.QuantConv1D(8, use_bias=False, **options)


def conv2d(size=3, **changes):
    return lq.layers.QuantConv2D(8, size, use_bias=False, **BINARY, **changes)


# What is a vector or a sequence in the model, and a map in the file.
BEFORE = {
    "dense": (VECTOR, dense),
    "sequence": (SEQUENCE, dense),
    "grouped": (SEQUENCE, partial(conv1d, groups=2)),
    "causal": (SEQUENCE, partial(conv1d, padding="causal")),
}


def check(shape, rows, folder):
    """Compares prepared model and file with NumPy: the sums are whole numbers.

    Each row of layers reads the input and makes an output.
    """
    inputs = keras.Input(shape)
    outputs = [functools.reduce(lambda y, layer: layer(y), row, inputs) for row in rows]
    model = scrambled(keras.Model(inputs, outputs))
    x = examples(shape)
    report, found = converted(model, folder, x)
    binary = sum(getattr(layer, "groups", 1) for row in rows for layer in row[::2])
    assert report.lce_bconv2d == report.binary_layers == binary
    given = prepared(model)(x)
    for row, ready, values in zip(rows, given, found, strict=True):
        wanted = functools.reduce(lambda y, layer: in_numpy(layer, y), row, x)
        assert np.ptp(wanted) > 0
        assert_allclose(ready, wanted, atol=1e-4)
        assert_allclose(values, wanted, atol=1e-4)


def in_numpy(layer, x):
    kind, shape = type(layer), layer.output_shape[1:]
    if kind is keras.Sequential:
        return functools.reduce(lambda y, part: in_numpy(part, y), layer.layers, x)
    if kind in (keras.layers.Flatten, keras.layers.Reshape):
        return x.reshape(len(x), *shape)
    last = IN_NUMPY.get(layer.activation, lambda y: y)
    return last(x if kind is keras.layers.Activation else expected(layer, x))


@pytest.mark.parametrize("before", BEFORE)
def test_an_activation_layer_sees_its_axes(before, tmp_path):
    shape, first = BEFORE[before]
    functions = map(keras.layers.Activation, IN_NUMPY)
    check(shape, [[first(), last, dense(5)] for last in functions], tmp_path)


@pytest.mark.parametrize("before", BEFORE)
def test_the_activation_of_a_binary_layer_sees_its_axes(before, tmp_path):
    shape, first = BEFORE[before]
    linear = partial(keras.layers.Activation, "linear")
    rows = [[first(activation=last), linear(), dense(5)] for last in IN_NUMPY]
    check(shape, rows, tmp_path)


def test_a_function_between_the_models_own_reshapes_sees_its_axes(tmp_path):
    def around(function):
        flat, last = keras.layers.Flatten(), keras.layers.Activation(function)
        inner = keras.Sequential([flat, last, keras.layers.Reshape((1, 1, 8))])
        return [conv2d(), inner, conv2d(1)]

    check(MAP, list(map(around, IN_NUMPY)), tmp_path)


@pytest.mark.parametrize("function", ["relu", "tanh", "softmax", tf.nn.relu6])
def test_known_functions_stay_between_maps(function, tmp_path):
    inputs = keras.Input(VECTOR)
    y = dense(5)(keras.layers.Activation(function)(dense()(inputs)))
    model = scrambled(keras.Model(inputs, y))
    report, _ = converted(model, tmp_path, examples(VECTOR))
    assert operations(report).get("RESHAPE", 0) <= 2  # of the input and the output
