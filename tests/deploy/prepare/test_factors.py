"""Positive factors: which vanish into which layers, and which stay."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled
from deploy.prepare.factor_nets import (
    SHAPE,
    factor,
    factors_left,
    is_factor,
    network,
    rsign_conv,
)
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._moves import absorb_factors
from larq_nobn.deploy.prepare._prepare import at_inference, prepare
from larq_nobn.deploy.prepare._reading import spell_affine
from larq_nobn.graph import to_keras
from larq_nobn.rewrites import once

_layers, _nobn = keras.layers, nobn.layers


HOLDS = {
    "binary convolution": lambda: binary_conv(),
    "binary convolution of a shifted sign": rsign_conv,
    "convolution": lambda: _layers.Conv2D(8, 3, padding="same"),
    "rectified convolution": lambda: _layers.Conv2D(8, 3, activation="relu"),
    "binary kernel": lambda: lq.layers.QuantConv2D(
        8, 1, kernel_quantizer=nobn.quantizers.ScaledStdSign()
    ),
    "real kernel of signs": lambda: lq.layers.QuantConv2D(
        8, 3, padding="same", pad_values=1.0, input_quantizer=nobn.quantizers.RSign()
    ),
    "kernel inside its map": lambda: lq.layers.QuantConv2D(8, 3, pad_values=1.0),
    "depthwise": lambda: _layers.DepthwiseConv2D(3, padding="same"),
    "dense": lambda: _layers.Dense(8),
    "batch norm": lambda: _layers.BatchNormalization(),
    "batch norm without a gain": lambda: _layers.BatchNormalization(scale=False),
    "batch norm without center": lambda: _layers.BatchNormalization(center=False),
    "affine": lambda: _nobn.ChannelAffine(),
    "rescaling": lambda: _layers.Rescaling([-1.0] * 32, 0.5, name="other"),
}
TAKES = {
    "shifted sign": lambda: nobn.quantizers.RSign(2.0),
    "sign": lambda: _layers.Activation(lq.quantizers.ApproxSign()),
    "sign of the package": lambda: nobn.quantizers.SignSwish(),
    "binary convolution with tanh": lambda: rsign_conv(activation="tanh"),
    "convolution with tanh": lambda: _layers.Conv2D(8, 3, activation="tanh"),
}
PASSES = {
    "rprelu": lambda: _nobn.RPReLU(),
    "threshold": lambda: _nobn.ThresholdedLinearUnit(),
    "relu": lambda: _layers.ReLU(),
    "activation": lambda: _layers.Activation("relu"),
    "leaky relu": lambda: _layers.LeakyReLU(0.25),
    "prelu": lambda: _layers.PReLU(),
    "average": lambda: _layers.AveragePooling2D(3, 2, padding="same"),
    "maximum": lambda: _layers.MaxPooling2D(3, 2, padding="same"),
    "padding": lambda: _layers.ZeroPadding2D(),
    "dropout": lambda: _layers.Dropout(0.5),
    "flat": lambda: _layers.Flatten(),
}


class AboveHalf(lq.quantizers.Quantizer):
    """A sign that is not one of zero."""

    precision = 1

    def call(self, inputs):
        return lq.math.sign(inputs - 0.5)


STOPS = {
    "tanh": lambda: _layers.Activation("tanh"),
    "bounded relu": lambda: _layers.ReLU(6.0),
    "shifted relu": lambda: _layers.ReLU(threshold=0.5),
    "padding with ones": lambda: lq.layers.QuantConv2D(
        8, 3, padding="same", pad_values=1.0
    ),
    "levels": lambda: lq.layers.QuantConv2D(8, 3, input_quantizer="dorefa_quantizer"),
    "signs of its own": lambda: binary_conv(input_quantizer=AboveHalf()),
    "a layer of such signs": lambda: AboveHalf(),
    "layer norm": lambda: _layers.LayerNormalization(),
    "sum with a number": lambda: lambda x: x + 1.0,
    "product": lambda: lambda x: _layers.Multiply()([x, x]),
}


def before_tanh(*rows):
    tanh = _layers.Activation("tanh", name="tanh")
    return chain(*rows, tanh, stem=False, shape=SHAPE)


@pytest.mark.parametrize("name", HOLDS)
def test_these_hold_a_factor_on_either_side(name):
    for rows in ((factor(), HOLDS[name]()), (HOLDS[name](), factor())):
        assert "factor" not in factors_left(before_tanh(*rows))


@pytest.mark.parametrize("name", TAKES)
def test_these_hold_a_factor_before_them_only(name):
    assert factors_left(before_tanh(factor(), TAKES[name]())) == {}
    assert factors_left(before_tanh(TAKES[name](), factor())) == {"factor": 0.25}


@pytest.mark.parametrize("name", PASSES)
def test_these_pass_a_factor_on(name):
    dense = _layers.Dense(5)
    model = chain(factor(), PASSES[name](), dense, stem=False, shape=SHAPE)
    assert factors_left(model) == {}


@pytest.mark.parametrize("name", STOPS)
def test_before_these_a_factor_stays(name):
    model = chain(factor(), STOPS[name](), *head(), stem=False, shape=SHAPE)
    assert factors_left(model) == {"factor": 0.25}
    assert prepare(model).get_layer("factor").offset is None


@pytest.mark.parametrize(
    "given",
    [
        factor(0.0),
        factor(-0.5),
        factor([0.5] * 32),
        factor(0.5, 0.5),
        factor(float("inf")),
        factor(1e-13),
    ],
)
def test_what_is_no_positive_number_stays(given):
    model = chain(given, *head(), stem=False, shape=SHAPE)
    graph = at_inference(model)
    assert absorb_factors(graph) is graph


@pytest.mark.parametrize(
    "multiply",
    [
        lambda x: 0.25 * x,
        lambda x: x * 0.25,
        lambda x: tf.multiply(x, 0.25),
        lambda x: tf.multiply(x=0.25, y=x),
    ],
)
def test_products_written_as_such_count_too(multiply):
    assert factors_left(network(multiply)) == {}
    assert len(factors_left(network(lambda x: tf.tanh(multiply(x))))) == 1


@pytest.mark.parametrize("number", [-0.25, np.ones(32, np.float32)])
def test_other_products_written_as_such_stay(number):
    assert len(factors_left(network(lambda x: x * number))) == 1


def test_pixels_become_floats_all_the_same():
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = _layers.Conv2D(8, 3)(factor(1 / 256)(inputs))
    model = scrambled(keras.Model(inputs, x))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    assert factors_left(model, pixels) == {"factor": 1 / 256}


def test_pixels_in_floats_are_left_as_they_are():
    conv = _layers.Conv2D(8, 3, padding="same")
    model = chain(factor(1 / 255), conv, stem=False, shape=(8, 8, 3))
    assert factors_left(model) == {}


def test_a_factor_of_the_output_stays():
    model = chain(factor(), _layers.ReLU(), stem=False, shape=SHAPE)
    assert factors_left(model) == {"factor": 0.25}


@pytest.mark.parametrize(
    "ends",
    [
        lambda x: factor(0.25)(x),
        lambda x: 0.25 * x,
        lambda x: factor(0.5, name="last")(factor(1 / 3)(x)),
        lambda x: [factor(0.25)(x), _layers.Dense(2)(x)],
    ],
)
def test_a_factor_of_the_output_goes_into_the_kernel_before_it(ends):
    inputs = keras.Input((4,))
    model = scrambled(keras.Model(inputs, ends(_layers.Dense(3)(inputs))))
    x = images(shape=(4,))
    made = to_keras(once(absorb_factors(at_inference(model)), (spell_affine,)))
    assert not any(map(is_factor, made.layers))
    for got, expected in zip(
        tf.nest.flatten(made(x)), tf.nest.flatten(model(x)), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_of_several_factors_that_cannot_vanish_the_last_contains_all():
    rows = factor(0.5, name="first"), _layers.ReLU(), factor(0.25, name="last")
    assert factors_left(chain(*rows, stem=False, shape=SHAPE)) == {"last": 0.125}


def test_a_skip_init_is_a_factor_like_any_other():
    rows = _nobn.SkipInit(name="skip"), factor()
    (left,) = factors_left(before_tanh(*rows)).items()
    assert left[0] == "factor"
    assert factors_left(chain(*rows, *head(), stem=False, shape=SHAPE)) == {}


def test_factors_do_not_leave_the_range_of_floats():
    rows = [factor(2.0**-30, name=f"factor{i}") for i in range(4)]
    rows[1:1] = [_nobn.RPReLU()]
    model = chain(*rows, rsign_conv(), *head(), stem=False, shape=SHAPE)
    left = factors_left(model)
    assert 0 < len(left) < 4


def test_an_infinite_factor_is_no_matter_of_weights():
    rows = binary_conv(), factor(float("inf")), _layers.Activation("tanh")
    graph = at_inference(chain(*rows, stem=False, shape=SHAPE))
    assert absorb_factors(graph) is graph


@pytest.mark.parametrize("kind", ["Conv1D", "Conv3D", "DepthwiseConv1D"])
def test_kernels_of_any_rank_take_a_factor(kind):
    filters = () if "Depthwise" in kind else (4,)
    shape = (6, 6, 6, 3) if kind == "Conv3D" else (8, 3)
    layer = getattr(_layers, kind)(*filters, 3)
    rows = factor(), layer, _layers.Flatten(), _layers.Dense(2)
    assert factors_left(chain(*rows, stem=False, shape=shape)) == {}
