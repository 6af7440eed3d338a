"""Programs lowered from traces: what they compute, and of how many operations."""

from collections import Counter

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images, scrambled
from deploy.operations.programs import kinds_of
from larq_nobn._keras import keras
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.operations._emit import outputs_of
from larq_nobn.deploy.operations._kinds import Kernel
from larq_nobn.deploy.operations._lower import lower
from larq_nobn.deploy.operations._rules import reduced, spelled
from larq_nobn.deploy.trace._trace import Trace
from numpy.testing import assert_allclose

layers = keras.layers
SHAPE = (8, 8, 3)


def norm(gamma=None, beta=None):
    """A batch norm; negative gains are among its own by default."""
    gamma, beta = (
        keras.initializers.RandomNormal(stddev=1.0, seed=1)
        if value is None
        else keras.initializers.Constant(value)
        for value in (gamma, beta)
    )
    return layers.BatchNormalization(gamma_initializer=gamma, beta_initializer=beta)


def shift():
    return nobn.layers.ChannelAffine()  # whose gain will be 1


def sign():
    return layers.Activation("ste_sign")


def in_row(*rows):
    def build(x):
        for layer in rows:
            x = layer(x)
        return x

    return build


def beside(x):
    """A shift that a sign, a kernel and a sum can take."""
    y = shift()(layers.Conv2D(8, 1, activation="tanh")(x))
    return [binary_conv(8)(y), layers.Conv2D(8, 1)(y), layers.Conv2D(8, 1)(x) + y]


def block(x):
    """The residual block of ReActNet: one shift before its sign is all that it adds."""
    for _ in range(2):
        y = binary_conv(3, input_quantizer=nobn.quantizers.RSign())(x)
        x = nobn.layers.RPReLU()(nobn.layers.ChannelAffine()(y) + x)
    return layers.Dense(2)(layers.GlobalAveragePooling2D()(x))


def scaled_shortcut(x):
    """The factor of a shortcut goes past a sign and two sums, into the last kernel."""
    x = layers.Conv2D(4, 1)(x)
    shortcut = layers.Rescaling(0.7)(layers.AveragePooling2D()(x))
    y = layers.PReLU(shared_axes=[1, 2])(shortcut + binary_conv(4, strides=2)(x))
    parts = layers.Concatenate()([binary_conv(4)(y) + y for _ in range(2)])
    return layers.Dense(2)(layers.GlobalAveragePooling2D()(parts))


def rectified(x):
    """A ReLU is part of a shift before it, which the sign beside it then lacks."""
    x = layers.Conv2D(4, 1)(x)
    y = binary_conv(4, input_quantizer=nobn.quantizers.RSign())(x)
    return layers.ReLU()(layers.Concatenate()([x, y]))


def shared(x):
    conv = layers.Conv2D(4, 3)
    return conv(x) * conv(x)


def beside_sign(x):
    """A sign does not mind the factor that the kernel before it takes."""
    x = layers.Conv2D(4, 1)(x)
    scaled = layers.Rescaling(0.7)(x)
    return [sign()(shift()(x)), keras.activations.tanh(scaled)]


# A network, and the operations of its program.
CASES = {
    "a convolution": (in_row(layers.Conv2D(4, 3), norm()), {"Kernel": 1}),
    "dilated ones": (
        in_row(
            layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
            norm(),
            layers.Conv2D(4, 3, dilation_rate=2),
            norm(),
        ),
        {"Kernel": 2},
    ),
    "a binary convolution": (
        in_row(binary_conv(4), norm()),
        {"Sign": 1, "Pad": 1, "Kernel": 1},
    ),
    "its ReLU": (
        in_row(
            binary_conv(4, kernel_quantizer="magnitude_aware_sign"),
            layers.ReLU(),
            norm(),
        ),
        {"Sign": 1, "Pad": 1, "Kernel": 1, "Relu": 1, "Affine": 1},
    ),
    "a sign": (in_row(norm(0.7), sign()), {"Sign": 1}),
    "the opposite sign": (in_row(norm(-0.7), sign()), {"Affine": 1, "Sign": 1}),
    "a largest value": (
        in_row(layers.Conv2D(4, 3), layers.MaxPooling2D(), norm(0.7)),
        {"Kernel": 1, "MaxPool": 1},
    ),
    "a slope": (
        in_row(layers.Conv2D(4, 3), nobn.layers.RPReLU()),
        {"Kernel": 1, "PReLU": 1, "Affine": 1},
    ),
    "a scale and a ReLU": (
        in_row(layers.Rescaling(0.7), layers.ReLU(), layers.Conv2D(4, 1)),
        {"Relu": 1, "Kernel": 1},
    ),
    "beside": (
        beside,
        {"Kernel": 4, "Tanh": 1, "Sign": 1, "Pad": 1, "Sum": 1},
    ),
    "a block": (
        block,
        {"Sign": 2, "Pad": 2, "Kernel": 3, "Sum": 2, "PReLU": 2, "Mean": 1},
    ),
    "a scaled shortcut": (
        scaled_shortcut,
        {"Kernel": 5, "Sign": 2, "Pad": 2, "Sum": 3, "PReLU": 1}
        | {"AvgPool": 1, "Joined": 1, "Mean": 1},
    ),
    "a ReLU": (
        rectified,
        {"Kernel": 2, "Sign": 1, "Pad": 1, "Affine": 1, "Joined": 1, "Relu": 1},
    ),
    "the same twice": (shared, {"Kernel": 1, "Mul": 1}),
    "a scale beside a sign": (beside_sign, {"Kernel": 1, "Sign": 1, "Tanh": 1}),
}


def program_of(model):
    return lower(Trace(model, io_spec(model))).program


@pytest.mark.parametrize("kind", CASES)
def test_a_program_computes_the_same_of_fewer_operations(kind):
    build, expected = CASES[kind]
    keras.utils.set_random_seed(0)
    start = keras.Input(SHAPE)
    model = scrambled(keras.Model(start, build(start)))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):  # as the case asks for
            layer.gamma.assign(layer.gamma_initializer(layer.gamma.shape))
            layer.beta.assign(layer.beta_initializer(layer.beta.shape))
        if isinstance(layer, nobn.layers.ChannelAffine):
            layer.gamma.assign(np.ones(layer.gamma.shape))
    program = program_of(model)
    small, x = spelled(reduced(program), "lce"), images(1, SHAPE)
    assert Counter(kinds_of(small)) == expected
    run = tf.function(lambda *inputs: outputs_of(small, inputs))
    for output, wanted in zip(run(x), tf.nest.flatten(model(x)), strict=True):
        assert_allclose(output, wanted, rtol=1e-4, atol=1e-5)


def test_a_threshold_is_halfway_between_two_sums():
    """Sums of nine signs are odd: 3 is one, and a bias of -3 makes its sign +1."""
    start = keras.Input((8, 8, 1))
    row = [binary_conv(4), norm(0.1, -0.3), binary_conv(4)]
    row[1].epsilon = 0.0
    model = keras.Model(start, in_row(*row)(start))
    small = spelled(reduced(program_of(model)), "lce")
    first = next(node for node in small.nodes if isinstance(node, Kernel))
    threshold = -first.bias / first.scale
    assert_allclose(threshold, np.full(4, 2.5), rtol=1e-6)
    x = images(4, (8, 8, 1))
    sums = keras.Model(start, model.layers[1].output)(x).numpy()
    assert np.mean(sums == 3) > 0.05
