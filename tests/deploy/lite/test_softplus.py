"""Softplus of large numbers, which files compute by way of exp(x)."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.deploy import VerificationError, convert, fake_quantize
from larq_nobn.deploy.lite import _lce_faults
from larq_nobn.deploy.lite._converter import Runner
from larq_nobn.deploy.lite._lce_faults import bounded_softplus
from numpy.testing import assert_allclose

layers = keras.layers


def test_it_is_softplus():
    x = np.array([-500, -90, -30, -1, 0, 1, 20, 79, 81, 90, 1e30], np.float32)
    wanted = np.logaddexp(x.astype(np.float64), 0)
    assert_allclose(bounded_softplus(x), wanted, rtol=1e-6, atol=1e-30)


@pytest.mark.convert
def test_files_compute_small_ones_too(tmp_path):
    """Where the largest of a channel is 1e-6, and rounding beside 1 is 6e-8."""
    start = keras.Input((4, 4, 2))
    x = layers.Activation("softplus")(start)
    model = keras.Model(start, layers.AveragePooling2D()(x))
    x = np.random.default_rng(0).uniform(-40, -12, (8, 4, 4, 2)).astype(np.float32)
    x[:, :, :, 1] = -x[:, :, :, 1] / 2
    convert(model, tmp_path / "net.tflite", data=x, allow_float=True, tolerance=1e-5)
    actual = Runner((tmp_path / "net.tflite").read_bytes(), "lce")(x)
    exact = np.logaddexp(x.astype(np.float64), 0)
    wanted = exact.reshape(8, 2, 2, 2, 2, 2).mean(axis=(2, 4))
    assert_allclose(actual, wanted, rtol=1e-5)


class Own(layers.Layer):
    """A layer of the user's, whose operations nobody reads."""

    def call(self, x):
        return tf.math.log_sigmoid(x) + tf.math.softplus(2 * x)


class Subclassed(keras.Model):
    """Converted from its trace."""

    def call(self, x):
        return tf.nn.softplus(x)


@pytest.mark.convert
def test_files_compute_any_of_them_of_large_numbers(tmp_path):
    start = keras.Input((6,))
    ends = tf.math.log_sigmoid(start), Own()(start), Subclassed()(start)
    convert(keras.Model(start, ends), tmp_path / "net.tflite", allow_float=True)
    x = np.float32([[-1e5, -100, -1, 1, 100, 1e5]])
    actual = Runner(tmp_path / "net.tflite", "lce").outputs([x])
    x = x.astype(np.float64)
    negative, own, plain = (np.logaddexp(k * x, 0) for k in (-1, 2, 1))
    for end, exact in zip(actual, (-negative, own - negative, plain), strict=True):
        assert_allclose(end, exact, rtol=1e-6, atol=1e-30)


@pytest.mark.convert
def test_int8_files_compute_it_of_large_numbers(tmp_path):
    start = keras.Input((6,))
    model = keras.Model(start, layers.Activation("softplus")(start))
    x = np.float32([[-200, -100, -1, 1, 100, 200]])
    model = fake_quantize(model, x)
    convert(model, tmp_path / "net.tflite", int8=True, allow_float=True)
    actual = Runner(tmp_path / "net.tflite", "lce")(x)
    assert_allclose(actual, np.logaddexp(x, 0), atol=1.5 * 400 / 255)


def overflowing(x):
    return tf.math.log(1 + tf.exp(x))


@pytest.mark.convert
@pytest.mark.parametrize("int8", [False, True])
def test_a_file_that_overflows_is_rejected(int8, monkeypatch, tmp_path):
    """Of a model that is converted from its trace, or has ranges, as of any other."""
    start = keras.Input((6,))
    softplus = layers.Activation("softplus") if int8 else Subclassed()
    model = keras.Model(start, softplus(start))
    if int8:
        model = fake_quantize(model, np.float32([[-200, 0, 0, 0, 0, 200]]))
    monkeypatch.setattr(_lce_faults, "bounded_softplus", overflowing)
    with pytest.raises(VerificationError, match="omputes something else|changed"):
        convert(model, tmp_path / "net.tflite", int8=int8, allow_float=True)
