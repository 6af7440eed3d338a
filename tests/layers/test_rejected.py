"""Arguments and inputs that layers reject, each with a remedy."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers
from larq_nobn._keras import keras


def unregistered(y):
    return y


def dense(**arguments):
    return keras.layers.Dense(2, name="d", **arguments)


DEPTHWISE = keras.layers.DepthwiseConv2D(3)
# A number outside of its interval is a ValueError, what is no number a TypeError.
ARGUMENTS = {
    layers.BatchKalmanNormalization: [
        ({"prior": 1.0}, r"prior=1.0 is outside \[0, 1\)"),
        ({"momentum": 1.0}, r"momentum=1.0 is outside \[0, 1\)"),
        ({"epsilon": 0.0}, r"epsilon=0.0 is outside \(0, inf\)"),
        ({"beta_initializer": "zeroes"}, "beta_initializer='zeroes' is not an init"),
    ],
    layers.BatchNormalizationPreconditioning: [
        ({"layer": dense(use_bias=False)}, "'d' has use"),
        ({"layer": DEPTHWISE}, "DepthwiseConv2D"),
        ({"layer": "dense"}, "'dense' cannot be preconditioned"),
        ({"layer": dense(), "momentum": 1.0}, "momentum=1.0 is outside"),
        ({"layer": dense(), "epsilon": 0}, "epsilon=0 is outside"),
        ({"layer": dense(), "dtype": "float64"}, "of 'd',"),
    ],
    layers.DynamicTanh: [
        ({"alpha": 0.0}, "alpha=0.0 .*Use 0.5"),
        ({"alpha": float("nan")}, "alpha=nan .*Use 0.5"),
    ],
    layers.EvoNormS0: [
        ({"groups": 0}, "groups=0 is below 1. The paper's is 32"),
        ({"epsilon": 0.0}, r"epsilon=0.0 is outside \(0, inf\)"),
    ],
    layers.FakeQuantization: [
        ({"momentum": 1}, r"momentum=1 is outside \[0, 1\). Use 0.99"),
    ],
    layers.FilterResponseNormalization: [
        ({"epsilon": 0.0}, r"epsilon=0.0 is outside \(0, inf\)"),
        ({"learned_epsilon": 1e-4}, "learned_epsilon=0.0001 is neither"),
        ({"center": 1}, "center=1 is neither"),
        ({"scale": "no"}, "scale='no' is neither"),
    ],
    layers.IndependentComponent: [
        ({"rate": 1.0}, r"rate=1.0 is outside \[0, 1\)"),
        ({"momentum": 1.0}, r"momentum=1.0 is outside \[0, 1\)"),
        ({"epsilon": 0.0}, r"epsilon=0.0 is outside \(0, inf\)"),
    ],
    layers.LeakyIntegrateAndFire: [
        ({"decay": 0.0}, r"decay=0.0 is outside \(0, 1\]. 1 does not leak"),
        ({"threshold": 0}, r"threshold=0 is outside \(0, inf\). It is in"),
        ({"reset": "none"}, "must be one of soft, hard.*; got 'none'"),
        ({"signed": 1}, "signed=1 is neither True nor False"),
    ],
    layers.ProxyNormalization: [
        ({"activation": "rely"}, "activation='rely' is not an elementwise"),
        ({"activation": unregistered}, "activation=<function unregistered"),
        ({"activation": keras.layers.PReLU()}, "activation=<.*PReLU"),
        (
            {"activation": "tanh", "num_samples": None},
            "activation='tanh' does not have; linear, relu, leaky_relu have. Use",
        ),
        ({"groups": 0}, "groups=0 is below 1"),
        ({"num_samples": 1}, "num_samples=1 is below 2"),
        ({"epsilon": 0.0}, r"epsilon=0.0 is outside \(0, inf\)"),
        ({"proxy_regularizer": "l3"}, "proxy_regularizer='l3' is not"),
    ],
    layers.RPReLU: [
        ({"power_of_two": "yes"}, "power_of_two='yes' is neither True nor False"),
    ],
    layers.SignFlipDropout: [({"rate": 1.0}, r"rate=1.0 is outside \[0, 1\)")],
    layers.SkipInit: [
        ({"gain_initializer": 3}, "gain_initializer=3 is not an initializer. Pass a"),
    ],
    layers.SymmetricHead: [
        ({"classes": 1}, "classes=1 is below 2. A classifier needs two."),
        ({"classes": 3, "scale": 0}, r"scale=0 is outside \(0, inf\)"),
        ({"classes": 3, "trainable_plane": 1}, "trainable_plane=1 is neither True"),
    ],
    layers.ThresholdedLinearUnit: [
        ({"tau_initializer": "zeroes"}, "tau_initializer='zeroes' is not an init"),
    ],
}


@pytest.mark.parametrize("layer", ARGUMENTS)
def test_arguments(layer):
    for arguments, message in ARGUMENTS[layer]:
        with pytest.raises((TypeError, ValueError), match=message):
            layer(**arguments)


SINGLE = "where every group is a single value"
INPUTS = {
    layers.ActivationStandardization(): ((8, 1, 1, 1), "1, 1, 1.*, but one element"),
    layers.EvoNormS0(): ((None, 8, 8, 48), "48 channels, which groups=32 does not div"),
    layers.EvoNormS0(8): ((3, 1, 1, 8), SINGLE),
    layers.FilterResponseNormalization(): ((3, 8), r"rank-2 input of shape \(3, 8\)"),
    layers.LeakyIntegrateAndFire(): ((3, 8), r"rank-2 input of shape \(3, 8\), but it"),
    layers.ProxyNormalization(groups=3): ((2, 8), "8 channels, which groups=3 does no"),
    layers.ProxyNormalization(): ((2, 1), rf"shape \(2, 1\) for groups=1, {SINGLE}"),
    layers.ProxyNormalization("relu"): ((2, 4, None), r"\(2, 4, None\), but it needs"),
    layers.RPReLU(): ((3, None), r"RPReLU got an input of shape \(3, None\)"),
    layers.SymmetricHead(3): ((None, 1), r"\(None, 1\).*two features or more"),
    layers.SymmetricHead(4): ((None, 4, 8), r"\(None, 4, 8\).*Pool or flat"),
    layers.SymmetricHead(5): ((None, None), r"\(None, None\).*known numb"),
    layers.ThresholdedLinearUnit(): ((3, None), r"got an input of shape \(3, None\)"),
}


@pytest.mark.parametrize("layer", INPUTS)
def test_inputs(layer):
    shape, message = INPUTS[layer]
    with pytest.raises(ValueError, match=message):
        layer.build(shape)


def test_two_channels_of_a_group_have_a_variance():
    layers.EvoNormS0(groups=4).build((3, 1, 1, 8))


def test_ranges_without_zero():
    layer = layers.FakeQuantization()
    layer.build((None, 4))
    with pytest.raises(
        ValueError, match=r"minimum=0.5 is outside \(-inf, 0\]. A range"
    ):
        layer.set_range(0.5, 1.0)
    with pytest.raises(
        ValueError, match=r"maximum=-0.5 is outside \[0, inf\). A range"
    ):
        layer.set_range(-1.0, -0.5)


@pytest.mark.parametrize("sizes", [(4, 4), (3,), (3, 3, 3)])
def test_states_that_do_not_fit(sizes):
    shapes = ", ".join(rf"\({size},\)" for size in sizes)
    message = rf"a state of shapes \[{shapes}\].* has 3 channels"
    state = [tf.ones(size) for size in sizes]
    with pytest.raises(ValueError, match=message):
        layers.BatchKalmanNormalization()([np.ones((2, 3)), state])
