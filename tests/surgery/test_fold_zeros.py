"""What is exactly 0 before a sign or a jump stays 0, and its sign is what it was."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from larq_nobn._keras import keras
from larq_nobn.quantizers import RSign
from numpy.testing import assert_allclose, assert_array_equal
from surgery.folding import AFFINE, floatx
from tie_networks import GAINS, JUMPS, MEANS, REAL, SHAPE, WHOLE, conv, network, norm

layers = keras.layers


# Nothing but the values counts here: that folding compares ties rightly is for
# `deploy/prepare/test_ties.py`, which compares in the same way.
def check(model, before):
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    folded = nobn.fold_batch_norm(model, verify=False)
    assert_array_equal(folded(x), model(x))
    return folded


# The others are prepared for the device by the same rules, in `deploy/prepare`.
@pytest.mark.parametrize(
    "kind, epsilon",
    [
        ("zero padded", 1e-3),
        ("rectifies", 1e-3),
        ("maximum", 1e-3),
        ("average", 0.0),
        ("sum", 0.0),
        ("shifted sign", 1e-3),
    ],
)
def test_signs_of_whole_numbers(kind, epsilon):
    check(*network(WHOLE[kind], epsilon=epsilon))


def test_signs_of_zeros_that_another_batch_norm_makes():
    """A little more than such a 0, times a negative gain, has the other sign."""

    def part(x):
        inner = norm(np.roll(GAINS, 4), MEANS, 1e-3, "inner")
        return layers.MaxPooling2D()(inner(conv()(x)))

    # Padded with ones, so that no kernel takes the negative gains.
    check(*network(part, 0.0, last=binary_conv(16)))


@pytest.mark.parametrize("kind, epsilon", [*zip(REAL, (0.0, 1e-3), strict=True)])
def test_signs_of_a_real_number_that_is_common(kind, epsilon):
    mean, part = REAL[kind]
    folded = check(*network(part, mean, epsilon=epsilon))
    assert "norm" not in [layer.name for layer in folded.layers]


@pytest.mark.parametrize("gain", [-1.0, 1.0])
def test_signs_with_a_shift_of_their_own(gain):
    """gain * x + b is 0 where x is 2."""
    last = conv(1, input_quantizer=RSign(offset=-2.0 * gain))
    model, _ = network(WHOLE["rectified"], 0.0, gain, 0.0, last)
    folded, x = nobn.fold_batch_norm(model, verify=False), images(4, SHAPE)
    assert_array_equal(folded(x), model(x))


def test_thresholds_that_no_sum_reaches_stay():
    """Of whole numbers -1, 1, 3, ... and a threshold of 2.4 nothing has to move."""
    model, _ = network(WHOLE["rectified"], 2.4, GAINS, 0.0)
    quantizer = nobn.fold_batch_norm(model, verify=False).layers[-1].input_quantizer
    threshold = -quantizer.shift.numpy() / quantizer.scale
    assert_allclose(threshold, np.full(16, 2.4), rtol=1e-6)


# Maps of whole numbers before every function that jumps.
PAIRS = {
    "convolution": "sign",
    "maximum": "above",
    "average": "from",
    "joined": "times 2",
    "zero padded": "cast",
    "rectified": "larq",
    "sum": "heaviside",
    "difference": "lambda",
}


@pytest.mark.parametrize("kind, step", [*PAIRS.items()])
def test_before_functions_that_jump(kind, step):
    """Against what float64 gives."""
    last, exact = JUMPS[step]
    model, _ = network(WHOLE[kind], last=last)
    x = images(4, SHAPE)
    whole = keras.Model(model.inputs, model.get_layer("norm").input)(x).numpy()
    known = (whole.astype(float) - MEANS) * GAINS
    assert np.mean(known == 0) > 0.01
    folded, report = nobn.fold_batch_norm(model, verify=False, return_report=True)
    assert not any(isinstance(x, layers.BatchNormalization) for x in folded.layers)
    assert_array_equal(model(x), exact(known))
    assert_array_equal(folded(x), exact(known))
    if kind == "average":  # what could not be moved is said
        assert [change.action for change in report.changes] == [AFFINE]


@keras.saving.register_keras_serializable("tests")
def jump(x):
    return tf.sign(x)


@keras.saving.register_keras_serializable("tests")
class Jump(layers.Layer):
    def call(self, x):
        return tf.sign(x)


# What stands between a batch norm and a sign that is a function.
BETWEEN = {
    "an activation": lambda x: layers.Activation(jump)(x),
    "a user's layer": lambda x: Jump()(x),
    "a maximum": lambda x: tf.sign(layers.MaxPooling2D()(x)),
    "a function": lambda x: tf.sign(layers.Activation("tanh")(x)),
    "a concatenation": lambda x: tf.sign(layers.Concatenate()([x, -x])),
}


@pytest.mark.parametrize("kind", BETWEEN)
def test_with_something_between(kind):
    check(*network(WHOLE["convolution"], last=BETWEEN[kind]))


@pytest.mark.parametrize(
    "kind, function",
    [("convolution", None), ("average", tf.sign), ("maximum", tf.sign)],
)
def test_a_sign_beside_another_reader(kind, function):
    """Sums of which scale and bias stay, and whose sign is taken as well."""

    def last(x):
        beside = [] if function is None else [function(x)]
        return [conv(1)(x), x, *beside]

    model, x = network(WHOLE[kind], last=last)[0], images(4, SHAPE)
    folded = nobn.fold_batch_norm(model, verify=False)
    signs, numbers, *jumps = zip(model(x), folded(x), strict=True)
    assert_array_equal(*signs)
    assert_allclose(*numbers, atol=1e-5)
    for pair in jumps:
        assert_array_equal(*pair)


def test_of_double_precision():
    with floatx("float64"):
        model, _ = network(WHOLE["convolution"], last=tf.sign)
    x = images(4, SHAPE).astype(float)
    assert np.mean(model(x).numpy() == 0) > 0.01
    assert_array_equal(nobn.fold_batch_norm(model)(x), model(x))
