"""Random binary weights: the relaxation, its draws, and the mode at inference."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences
from larq_nobn._keras import dtype_policy, keras
from larq_nobn._math import tanh_slope
from larq_nobn.quantizers import BernoulliSign
from larq_nobn.quantizers._bernoulli_sign import bernoulli_sign
from numpy.testing import assert_allclose, assert_array_equal


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(40)


def relaxed(natural, uniform, temperature):
    """The formula, in NumPy."""
    noise = 0.5 * np.log(uniform / (1 - uniform))
    return np.tanh((natural + noise) / temperature)


def value_and_slope(natural, uniform, temperature, hard=False, upstream=None):
    natural, uniform = tf.constant(natural), tf.constant(uniform)
    with tf.GradientTape() as tape:
        tape.watch(natural)
        w = bernoulli_sign(natural, uniform=uniform, temperature=temperature, hard=hard)
    return w.numpy(), tape.gradient(w, natural, upstream).numpy()


def drawn(rng, *shape):
    return rng.normal(size=shape), rng.uniform(0.01, 0.99, size=shape)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_value_and_gradient(temperature):
    rng = np.random.default_rng(41)
    (natural, uniform), upstream = drawn(rng, 5, 4), rng.normal(size=(5, 4))
    expected = relaxed(natural, uniform, temperature)
    slope = upstream * (1 - expected**2 + 1e-10) / temperature
    for hard in (False, True):
        w, d = value_and_slope(natural, uniform, temperature, hard, upstream)
        assert_allclose(w, np.sign(expected) if hard else expected, rtol=1e-12)
        assert_allclose(d, slope, rtol=1e-9)  # 1 - w² loses digits near ±1
    differences = finite_differences(
        lambda x: np.vdot(relaxed(x, uniform, temperature), upstream), natural
    )
    assert_allclose(d, differences, atol=1e-7)


def test_the_slope_keeps_its_digits():
    x = np.array([0.0, -0.3, 9.0, -9.0, 30.0, np.inf])
    exact = 1 / np.cosh(x) ** 2 + 1e-10
    assert_allclose(tanh_slope(tf.constant(x, tf.float32)), exact, rtol=1e-5)
    assert_allclose(tanh_slope(tf.constant(x)), exact, rtol=1e-14)


def test_a_weight_is_positive_as_often_as_its_natural_parameter_says():
    natural, count = np.array([-2.0, -0.5, 0.0, 0.3, 1.5]), 50_000
    layer = BernoulliSign(hard=True)
    x = tf.tile(tf.constant(natural, tf.float32)[None], [count, 1])
    w = layer(x, training=True).numpy()
    assert set(np.unique(w)) == {-1, 1}
    expected = (1 + np.tanh(natural)) / 2
    # Five standard deviations: wrong once in 350,000 seeds for all five together.
    bound = 5 * np.sqrt(expected * (1 - expected) / count)
    assert np.all(np.abs((w > 0).mean(0) - expected) < bound)
    # Columns are independent: the correlation has the standard deviation count^-1/2.
    correlation = np.corrcoef(w.T) - np.eye(5)
    assert np.abs(correlation).max() < 5 / np.sqrt(count)


def test_every_call_draws_again_and_a_seed_repeats_it():
    x, layer = tf.zeros((20, 30)), BernoulliSign()
    first, second = (layer(x, training=True).numpy() for _ in range(2))
    assert (first != second).all()
    keras.utils.set_random_seed(40)
    assert_array_equal(BernoulliSign()(x, training=True), first)


NATURAL = np.random.default_rng(43).normal(size=(4, 3)).astype(np.float32)
SIGNS = np.where(NATURAL >= 0, 1, -1)
EXAMPLES = np.eye(4, dtype=np.float32)  # outputs are the kernel


def dense(**arguments):
    kernel = BernoulliSign(**arguments)
    layer = lq.layers.QuantDense(3, kernel_quantizer=kernel, use_bias=False)
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.kernel.latent_variable.assign(NATURAL)
    return model


def test_a_layer_draws_in_training_and_takes_the_mode_otherwise():
    model = dense()
    (layer,) = model.layers
    for actual in (
        model(EXAMPLES),
        model(EXAMPLES, training=False),
        model.predict(EXAMPLES, verbose=0),
        layer(EXAMPLES),
        tf.function(layer)(EXAMPLES),
    ):
        assert_array_equal(actual, SIGNS)
    with lq.context.quantized_scope(True):
        assert_array_equal(layer.kernel.numpy(), SIGNS)
    assert_array_equal(layer.get_weights()[0], NATURAL)
    one, other = (model(EXAMPLES, training=True).numpy() for _ in range(2))
    assert (one != other).all()
    assert np.abs(one).max() < 1


def test_half_precision_draws_either_sign_and_stays_finite():
    for policy, temperature in (("float16", 1.0), ("mixed_bfloat16", 1e-12)):
        with dtype_policy(policy):
            layer = BernoulliSign(temperature)
        x = tf.constant([[-1e3, -1.0, 0.0, 2.0, 1e3]] * 200, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        values, slopes = (np.asarray(t, float) for t in (y, tape.gradient(y, x)))
        assert np.isfinite(values).all() and np.isfinite(slopes).all()
        assert_array_equal(values[:, [0, 4]], [[-1, 1]] * 200)
        # Twice as many of one sign at 0 would be ten standard deviations.
        assert 67 < (values[:, 2] > 0).sum() < 133
