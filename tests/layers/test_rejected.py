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


# One of each argument with a sentence of its own; `test_wrong_kinds.py` has the rest.
ARGUMENTS = [
    (layers.BatchKalmanNormalization, {"prior": 1.0}, r"prior=1.0 is outside \[0, 1\)"),
    (
        layers.BatchKalmanNormalization,
        {"beta_initializer": "zeroes"},
        "beta_initializer='zeroes' is not an init",
    ),
    *(
        (layers.BatchNormalizationPreconditioning, {"layer": layer, **others}, message)
        for layer, others, message in (
            (dense(use_bias=False), {}, "'d' has use"),
            (keras.layers.DepthwiseConv2D(3), {}, "DepthwiseConv2D"),
            ("dense", {}, "'dense' cannot be preconditioned"),
            (dense(), {"dtype": "float64"}, "of 'd' got dtype='float64'"),
        )
    ),
    (layers.DynamicTanh, {"alpha": 0.0}, "alpha=0.0 .*Use 0.5"),
    (layers.EvoNormS0, {"groups": 0}, "groups=0 is below 1. The paper's is 32"),
    (layers.FakeQuantization, {"momentum": 1}, r"m=1 is outside \[0, 1\). Use 0.99"),
    (layers.FilterResponseNormalization, {"center": 1}, "center=1 is neither"),
    (layers.IndependentComponent, {"rate": 1.0}, r"rate=1.0 is outside \[0, 1\)"),
    (layers.LeakyIntegrateAndFire, {"decay": 0.0}, r"\(0, 1\]. 1 does not leak"),
    (layers.LeakyIntegrateAndFire, {"threshold": 0}, r"outside \(0, inf\). It is in"),
    (layers.LeakyIntegrateAndFire, {"reset": "none"}, "of soft, hard.*; got 'none'"),
    *(
        (layers.ProxyNormalization, arguments, message)
        for arguments, message in (
            ({"activation": "rely"}, "activation='rely' is not an elementwise"),
            ({"activation": unregistered}, "activation=<function unregistered"),
            (
                {"activation": "tanh", "num_samples": None},
                "only linear, relu, leaky_relu have; got activation='tanh'. Use",
            ),
            ({"num_samples": 1}, "num_samples=1 is below 2"),
            ({"proxy_regularizer": "l3"}, "proxy_regularizer='l3' is not"),
        )
    ),
    (layers.SymmetricHead, {"classes": 1}, "classes=1 is below 2. A classifier needs"),
]


@pytest.mark.parametrize("layer, arguments, message", ARGUMENTS)
def test_arguments(layer, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        layer(**arguments)


SINGLE = "so every group is a single value"
INPUTS = {
    layers.ActivationStandardization(): ((8, 1, 1, 1), "1, 1, 1.*, but one element"),
    layers.EvoNormS0(32): (
        (None, 8, 8, 48),
        "48 channels, which groups=32 does not",
    ),
    layers.EvoNormS0(8): ((3, 1, 1, 8), SINGLE),
    layers.FilterResponseNormalization(): ((3, 8), r"rank-2 input of shape \(3, 8\)"),
    layers.LeakyIntegrateAndFire(): ((3, 8), r"rank-2 input of shape \(3, 8\), but it"),
    layers.ProxyNormalization("relu"): ((2, 4, None), r"\(2, 4, None\), but it needs"),
    layers.SymmetricHead(3): ((None, 1), r"\(None, 1\).*two features or more"),
    layers.SymmetricHead(4): ((None, 4, 8), r"\(None, 4, 8\).*Pool or flat"),
    layers.ThresholdedLinearUnit(): ((3, None), r"got an input of shape \(3, None\)"),
}


@pytest.mark.parametrize("layer", INPUTS)
def test_inputs(layer):
    shape, message = INPUTS[layer]
    with pytest.raises(ValueError, match=message):
        layer.build(shape)


@pytest.mark.parametrize(
    "layer", [layers.RPReLU(), layers.FilterResponseNormalization()]
)
def test_an_input_of_unknown_rank(layer):
    layer(tf.zeros((2, 3, 3, 4)))
    with pytest.raises(ValueError, match="input of unknown rank. Give it one with"):
        layer(keras.Input(type_spec=tf.TensorSpec(None)))


@pytest.mark.parametrize("sizes", [(4, 4), (3,)])
def test_states_that_do_not_fit(sizes):
    shapes = ", ".join(rf"\({size},\)" for size in sizes)
    message = rf"a state of shapes \[{shapes}\].* its 3 input channels"
    state = [tf.ones(size) for size in sizes]
    with pytest.raises(ValueError, match=message):
        layers.BatchKalmanNormalization()([np.ones((2, 3)), state])
