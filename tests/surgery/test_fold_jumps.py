"""Functions that jump at 0, after a folded batch norm: what was 0 is 0."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import images
from larq_nobn._keras import keras
from numpy.testing import assert_allclose, assert_array_equal
from tie_networks import GAINS, JUMPS, MEANS, SHAPE, WHOLE, conv, network

layers = keras.layers
FRONTS = ("convolution", "maximum", "average", "joined")


@keras.saving.register_keras_serializable("tests")
def jump(x):
    return tf.sign(x)


@keras.saving.register_keras_serializable("tests")
class Jump(layers.Layer):
    def call(self, x):
        return tf.sign(x)


def checked(kind, last, exact, **options):
    """Compares the folded model with what float64 gives."""
    model, _ = network(WHOLE[kind], last=last, **options)
    x = images(4, SHAPE)
    whole = keras.Model(model.inputs, model.get_layer("norm").input)(x).numpy()
    known = (whole.astype(float) - MEANS) * GAINS
    assert np.mean(known == 0) > 0.01
    folded, report = nobn.fold_batch_norm(model, return_report=True)
    assert not any(isinstance(x, layers.BatchNormalization) for x in folded.layers)
    assert_array_equal(model(x), exact(known))
    assert_array_equal(folded(x), exact(known))
    return report


@pytest.mark.parametrize("step", JUMPS)
@pytest.mark.parametrize("kind", FRONTS)
def test_what_is_exactly_0_is_0_before_a_function(kind, step):
    checked(kind, *JUMPS[step])


@pytest.mark.parametrize("kind", sorted({*WHOLE} - {*FRONTS, "signs", "shifted sign"}))
def test_so_it_is_on_every_map_of_whole_numbers(kind):
    checked(kind, *JUMPS["sign"])


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
    model, before = network(WHOLE["convolution"], last=BETWEEN[kind])
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    assert_array_equal(nobn.fold_batch_norm(model)(x), model(x))


def test_what_could_not_be_moved_is_said():
    report = checked("average", *JUMPS["sign"])
    (change,) = report.changes
    assert change.action == "became a per-channel affine layer"


@pytest.mark.parametrize("function", [None, tf.sign])
@pytest.mark.parametrize("kind", FRONTS)
def test_a_sign_beside_another_reader(kind, function):
    """Sums of which scale and bias stay, and whose sign is taken as well."""

    def last(x):
        beside = [] if function is None else [function(x)]
        return [conv(1)(x), x, *beside]

    model, x = network(WHOLE[kind], last=last)[0], images(4, SHAPE)
    folded = nobn.fold_batch_norm(model)
    signs, numbers, *jumps = zip(model(x), folded(x), strict=True)
    assert_array_equal(*signs)
    assert_allclose(*numbers, atol=1e-5)
    for pair in jumps:
        assert_array_equal(*pair)


def test_of_double_precision():
    keras.backend.set_floatx("float64")
    try:
        model, _ = network(WHOLE["convolution"], last=tf.sign)
    finally:
        keras.backend.set_floatx("float32")
    x = images(4, SHAPE).astype(float)
    assert np.mean(model(x).numpy() == 0) > 0.01
    assert_array_equal(nobn.fold_batch_norm(model)(x), model(x))
