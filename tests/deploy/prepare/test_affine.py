"""Layers that are a gain and an offset at inference, and how they look prepared."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import chain, images, scrambled
from deploy.prepare.factor_nets import as_written
from larq_nobn._keras import keras
from larq_nobn.layers._inference import PlainAffine
from numpy.testing import assert_allclose

_layers, _nobn = keras.layers, nobn.layers
AFFINE = {
    "batch norm": lambda: _layers.BatchNormalization(name="x"),
    "no gamma": lambda: _layers.BatchNormalization(scale=False, name="x"),
    "no beta": lambda: _layers.BatchNormalization(center=False, name="x"),
    "epsilon": lambda: _layers.BatchNormalization(epsilon=0.5, name="x"),
    "frozen": lambda: _layers.BatchNormalization(trainable=False, name="x"),
    "independent component": lambda: _nobn.IndependentComponent(0.5, name="x"),
    "kalman": lambda: _FirstOf(_nobn.BatchKalmanNormalization(name="x")),
    "affine": lambda: _nobn.ChannelAffine(name="x"),
    "skip init": lambda: _nobn.SkipInit(name="x"),
    "rescaling": lambda: _layers.Rescaling(0.5, -1.0, name="x"),
    "rescaling of channels": lambda: _layers.Rescaling([0.5] * 32, name="x"),
}


class _FirstOf:
    """The features that a Kalman normalization makes, without its state."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)[0]


def by_rules(model):
    prepared = as_written(model)
    x = images(shape=model.input_shape[1:])
    expected = model(x, training=False)
    assert_allclose(prepared(x), expected, rtol=1e-5, atol=1e-5)
    return prepared.get_layer("x")


@pytest.mark.parametrize("name", AFFINE)
def test_these_become_a_gain_and_an_offset(name):
    assert type(by_rules(chain(AFFINE[name]()))) is PlainAffine


@pytest.mark.parametrize("name", ["batch norm", "affine"])
def test_these_do_so_after_dense_layers_too(name):
    model = chain(_layers.Dense(8), AFFINE[name](), stem=False, shape=(5,))
    assert type(by_rules(model)) is PlainAffine


class Doubled(_layers.BatchNormalization):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training)


@pytest.mark.parametrize(
    "layer",
    [
        _layers.BatchNormalization(axis=1, name="x"),
        _layers.Rescaling(np.ones((8, 8, 32)), 1.0, name="x"),
        Doubled(name="x"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_stay_what_they_are(layer):
    assert type(by_rules(chain(layer))) is type(layer)


def test_statistics_of_the_batch_stay():
    inputs = keras.Input((8, 8, 3))
    norm = _layers.BatchNormalization(name="x")
    model = scrambled(keras.Model(inputs, norm(inputs, training=True)))
    new = as_written(model).get_layer("x")
    assert type(new) is _layers.BatchNormalization


def test_a_rescaling_of_whole_numbers_stays():
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(inputs, _layers.Rescaling(1 / 255, name="x")(inputs))
    new = as_written(model).get_layer("x")
    assert type(new) is _layers.Rescaling


def test_gains_are_those_of_float64():
    """In float32, epsilon would be lost beside the variance."""
    norm = _layers.BatchNormalization(name="x", epsilon=1e-3)
    model = chain(norm, scramble=False)
    gamma, beta, mean, variance = np.random.default_rng(3).uniform(1, 9, (4, 32))
    norm.set_weights([gamma, beta, mean, variance])
    gamma, beta, mean, variance = (w.astype("f8") for w in norm.get_weights())
    new = as_written(model).get_layer("x")
    gain = gamma / np.sqrt(variance + 1e-3)
    assert_allclose(new.gain, gain, rtol=1e-7)
    assert_allclose(new.offset, beta - gain * mean, rtol=2e-7)


def test_numbers_that_do_nothing_are_left_out():
    layer = PlainAffine(np.ones(3), np.zeros(3))
    assert layer.gain is None and layer.offset is None
    x = images(shape=(3,))
    assert_allclose(layer(x), x, rtol=0)
