"""Binary layers of every kind that is rewritten, each against NumPy."""

from functools import partial, reduce

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import scrambled
from deploy.prepare.rewrites.oracle import BINARY, converted, examples, expected
from larq_nobn._keras import keras
from larq_nobn.deploy import prepared
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.quantizers import ScaledStdSign, SignSwish
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert
AWARE = {"kernel_quantizer": "magnitude_aware_sign"}
HEAVISIDE = {"input_quantizer": "ste_heaviside"}
ZERO_ONE = {"kernel_quantizer": "ste_heaviside", "kernel_constraint": None}
SHIFTED = {"input_quantizer": "rsign"}
PLAIN = {"use_bias": False}
FAR = keras.initializers.Constant(90)  # of more than 89, float32 can represent no exp


def dense(**changes):
    return lq.layers.QuantDense(6, **{**BINARY, **changes})


def conv1d(padding="valid", **changes):
    options = {"kernel_size": 3, "padding": padding, **BINARY, **changes}
    return lq.layers.QuantConv1D(6, **options)


def conv2d(size=3, padding="same", **changes):
    options = {"kernel_size": size, "padding": padding, **BINARY, **changes}
    return lq.layers.QuantConv2D(6, **options)


def vectors():
    return [
        dense(**PLAIN),
        dense(activation="softplus", bias_initializer=FAR),
        dense(**AWARE, **SHIFTED),
        dense(kernel_quantizer=ScaledStdSign(), activation="relu"),
        dense(**HEAVISIDE, **ZERO_ONE, activation="relu"),
    ]


def sequences():
    return [
        dense(**AWARE),
        conv1d(strides=2, activation="relu"),
        conv1d(dilation_rate=2, **AWARE),
        conv1d("same", pad_values=-1.0, strides=2),
        conv1d("same", kernel_size=12),
        conv1d("same", groups=2, **PLAIN),
        conv1d("same", input_quantizer=SignSwish(trainable_beta=True)),
        conv1d("causal", dilation_rate=3, activation="relu", **AWARE),
        conv1d("causal", groups=3, strides=2, **SHIFTED),
        conv1d("causal", **HEAVISIDE),
        conv1d("causal", **ZERO_ONE),
    ]


def maps():
    return [
        dense(**SHIFTED),
        conv2d(groups=3, **AWARE, **SHIFTED, activation="relu"),
        conv2d(groups=2, activation="relu", padding="valid", **HEAVISIDE),
        conv2d(groups=2, pad_values=1.0, strides=2, **ZERO_ONE),
        conv2d(pad_values=-1.0, **AWARE),
        conv2d(pad_values=0.5, **SHIFTED),
        conv2d(pad_values=1.0, **HEAVISIDE, **ZERO_ONE),
        conv2d(size=9, **AWARE),
        conv2d(size=4, dilation_rate=2, activation="relu"),
    ]


def rows():
    return [conv2d(size=3, **PLAIN), conv2d(size=(5, 7), **AWARE, **SHIFTED)]


def points():
    halves = {"pad_values": 0.5, **HEAVISIDE}  # 0 as a sign, which drops out
    return [
        conv2d(size=5, strides=2, groups=2, **AWARE),
        conv2d(size=5, **halves, **ZERO_ONE),
        conv2d(size=2, dilation_rate=2, **AWARE),  # no tap of which meets the map
    ]


def corners():
    return [
        conv2d(size=3, strides=2),
        conv2d(size=5, activation="relu"),
        conv2d(size=7, strides=2, **HEAVISIDE),
        conv2d(size=7, **ZERO_ONE),
    ]


def volumes():
    return [dense(**AWARE)]


KINDS = (
    {(40,): vectors, (9, 6): sequences},
    {(2, 3, 4, 6): volumes, (6, 5, 6): maps},
    {(1, 8, 6): rows, (1, 1, 6): points, (2, 2, 6): corners},
)


@pytest.mark.parametrize("kinds", KINDS, ids=["vectors", "maps", "small maps"])
def test_every_layer_is_binary_and_computes_what_numpy_does(kinds, tmp_path):
    """Layers of one shape read the same input of one file."""
    inputs = [keras.Input(shape) for shape in kinds]
    pairs = [
        (layer, number)
        for number, make in enumerate(kinds.values())
        for layer in make()
    ]
    ends = [layer(inputs[number]) for layer, number in pairs]
    model = scrambled(keras.Model(inputs, ends))
    x = [*map(examples, kinds)]
    report, found = converted(model, tmp_path, x)
    binary = sum(getattr(layer, "groups", 1) for layer, _ in pairs)
    assert report.lce_bconv2d == report.binary_layers == binary
    assert not {op["op"] for op in report.float_ops} & {"CONV_2D", "FULLY_CONNECTED"}
    rewritten = {row["layer"] for row in report.rewritten}
    assert rewritten == {layer.name for layer, _ in pairs}
    for (layer, number), values in zip(pairs, found, strict=True):
        wanted = expected(layer, x[number])
        assert np.ptp(wanted) > 0
        assert_allclose(values, wanted, atol=1e-4, err_msg=str(layer.get_config()))


# --- Functions over an axis counted from the front see the shape they were made for.


def centered(x):
    return x - tf.reduce_mean(x, 1, keepdims=True)


def softmax(x):
    return tf.nn.softmax(x, axis=1) - 0.1


def backward(x):
    return tf.reverse(x, [1])


def by_rank(x):
    return x * float(x.shape.rank) - 5.0


def exponentials(x):
    return np.exp(x - x.max(axis=1, keepdims=True))


IN_NUMPY = {
    centered: lambda x: x - x.mean(axis=1, keepdims=True),
    softmax: lambda x: (
        exponentials(x) / exponentials(x).sum(axis=1, keepdims=True) - 0.1
    ),
    backward: lambda x: x[:, ::-1],
    by_rank: lambda x: x * x.ndim - 5.0,
}


def in_numpy(layer, x):
    kind, shape = type(layer), layer.output_shape[1:]
    if kind is keras.Sequential:
        return reduce(lambda y, part: in_numpy(part, y), layer.layers, x)
    if kind in (keras.layers.Flatten, keras.layers.Reshape):
        return x.reshape(len(x), *shape)
    function = IN_NUMPY.get(layer.activation, lambda y: y)
    return function(x if kind is keras.layers.Activation else expected(layer, x))


linear = partial(keras.layers.Activation, "linear")
last = partial(dense, **PLAIN)


def reshaped(function):
    """A function between reshapes of the model's own, and binary layers around it."""
    flat, layer = keras.layers.Flatten(), keras.layers.Activation(function)
    inner = keras.Sequential([flat, layer, keras.layers.Reshape((1, 1, 6))])
    return [conv2d(padding="valid", **PLAIN), inner, conv2d(1, **PLAIN)]


def test_functions_see_the_axes_of_the_model(tmp_path):
    """As an activation layer, and as the activation of a binary one."""
    grouped, causal = partial(conv1d, groups=2), partial(conv1d, "causal")
    inside = (
        ((24,), dense, centered),
        ((8, 6), dense, backward),
        ((8, 6), causal, by_rank),
    )
    after = (
        ((24,), dense, by_rank),
        ((8, 6), dense, softmax),
        ((8, 6), grouped, centered),
        ((8, 6), causal, backward),
    )
    rows = [((3, 3, 6), reshaped(softmax))]
    for shape, first, function in inside:
        rows.append((shape, [first(activation=function, **PLAIN), linear(), last()]))
    for shape, first, function in after:
        layer = keras.layers.Activation(function)
        rows.append((shape, [first(**PLAIN), layer, last()]))
    inputs = {shape: keras.Input(shape) for shape, _ in rows}
    with keras.utils.custom_object_scope({f.__name__: f for f in IN_NUMPY}):
        ends = [
            reduce(lambda y, layer: layer(y), row, inputs[shape]) for shape, row in rows
        ]
        model = scrambled(keras.Model([*inputs.values()], ends))
        x = {shape: examples(shape) for shape in inputs}
        report, found = converted(model, tmp_path, [*x.values()])
        given = prepare(model)([*x.values()])
    binary = sum(getattr(layer, "groups", 1) for _, row in rows for layer in row[::2])
    assert report.lce_bconv2d == report.binary_layers == binary
    for (shape, row), ready, values in zip(rows, given, found, strict=True):
        wanted = reduce(lambda y, layer: in_numpy(layer, y), row, x[shape])
        assert np.ptp(wanted) > 0
        assert_allclose(ready, wanted, atol=1e-4)
        assert_allclose(values, wanted, atol=1e-4)


@pytest.mark.parametrize("function", ["relu", "tanh", "softmax", tf.nn.relu6])
def test_known_functions_stay_between_maps(function):
    inputs = keras.Input((24,))
    y = dense()(keras.layers.Activation(function)(dense()(inputs)))
    kinds = [type(x) for x in prepared(keras.Model(inputs, y)).layers]
    assert kinds.count(keras.layers.Reshape) <= 2  # of the input and the output
