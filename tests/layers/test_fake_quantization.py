"""FakeQuantization: its values, its range, and what moves it."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from numpy.testing import assert_allclose, assert_array_equal


def oracle(x, low, high):
    step = (high - low) / 255
    zero = np.round(-low / step)
    return step * (np.clip(np.round(x / step) + zero, 0, 255) - zero)


def quantization(low=0.0, high=0.0, **arguments):
    layer = nobn.layers.FakeQuantization(**arguments)
    layer.build((None, 4))
    layer.set_range(low, high)
    return layer


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("low, high", [(-1.0, 2.0), (0.0, 1.5), (-0.3, 0.0)])
def test_values(low, high):
    x = normal(50, 4)
    y = quantization(low, high)(x)
    assert_allclose(y, oracle(x, low, high), rtol=1e-5, atol=1e-6)
    assert len(np.unique(y)) > 20
    assert_array_equal(quantization(low, high)(np.zeros((1, 4), np.float32)), 0)


def test_without_a_range_it_returns_its_input():
    layer, x = quantization(), normal(3, 4)
    assert not layer.has_range
    assert_array_equal(layer(x), x)


def test_the_first_batch_gives_the_range_and_is_rounded():
    layer = nobn.layers.FakeQuantization()
    x = normal(20, 4)
    y = layer(x, training=True)
    assert layer.has_range
    assert_allclose([layer.minimum, layer.maximum], [x.min(), x.max()], rtol=1e-6)
    assert_allclose(y, oracle(x, x.min(), x.max()), rtol=1e-5, atol=1e-5)


def test_a_range_always_contains_zero():
    layer = nobn.layers.FakeQuantization()
    layer(np.array([[3.0, 5.0]], np.float32), training=True)
    assert_allclose([layer.minimum, layer.maximum], [0, 5])


def test_a_range_widens_at_once_and_narrows_slowly():
    layer = quantization(-1.0, 1.0, momentum=0.75)
    layer(np.array([[-0.2, 3.0]], np.float32), training=True)
    # -0.75 * 1 - 0.25 * 0.2, and the new extreme.
    assert_allclose([layer.minimum, layer.maximum], [-0.8, 3.0], rtol=1e-6)


@pytest.mark.parametrize("mode", ["inference", "frozen"])
def test_a_range_stays_when_it_should(mode):
    layer = quantization(-1.0, 1.0)
    layer.trainable = mode != "frozen"
    layer(5 * normal(3, 4), training=mode == "frozen")
    assert_array_equal([layer.minimum, layer.maximum], [-1, 1])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_overflow_does_not_move_the_range(value):
    layer = quantization(-1.0, 1.0)
    layer(np.array([[value, 3.0]], np.float32), training=True)
    assert_array_equal([layer.minimum, layer.maximum], [-1, 1])


def test_half_precision_is_rounded_in_float32():
    layer = quantization(-100.0, 80.0, dtype="mixed_float16")
    # In float16 the range would have no room for 255 exact steps.
    x = np.linspace(-110, 90, 256).astype(np.float16)
    y = layer(x.reshape(-1, 4))
    assert y.dtype == tf.float16
    assert_allclose(
        np.ravel(y), oracle(x.astype(np.float32), -100, 80), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    "ends, message",
    [
        ((0.5, 1.0), r"minimum=0.5 is outside \(-inf, 0\]. A range contains 0"),
        ((-1.0, -0.5), r"maximum=-0.5 is outside \[0, inf\). A range contains 0"),
    ],
)
def test_ranges_without_zero_are_rejected(ends, message):
    with pytest.raises(ValueError, match=message):
        quantization(*ends)


def test_momentum_is_checked():
    with pytest.raises(ValueError, match=r"momentum=1 is outside \[0, 1\). Use 0.99"):
        nobn.layers.FakeQuantization(momentum=1)


def test_it_trains_in_a_model_and_comes_back_from_a_file(tmp_path):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(2)(nobn.layers.FakeQuantization()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    model.fit(normal(32, 4), normal(32, 2), verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.layers[1].has_range
    assert_array_equal(again(normal(5, 4)), model(normal(5, 4)))
