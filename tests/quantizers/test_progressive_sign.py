"""Signs in the place of clipped activations: the mixture, its draws, and inference."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from larq_nobn.quantizers import ProgressiveSign, RSign
from larq_nobn.quantizers._progressive_sign import progressive_sign
from numpy.testing import assert_allclose, assert_array_equal

RNG = np.random.default_rng(50)
X = RNG.normal(size=(200, 3))
X[:3] = [[-0.2], [0.0], [9.0]]
SHIFT, SCALE = np.array([0.1, -0.4, 0.0]), 0.5


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(51)


def mixture(x, mask, shift=SHIFT, scale=SCALE):
    """The formula, in NumPy."""
    z = scale * x + shift
    return np.where(mask, np.where(z >= 0, 1.0, -1.0), np.clip(z, -1, 1))


def value_and_gradients(x, uniform, fraction, upstream):
    x, shift = tf.constant(x), tf.constant(SHIFT)
    with tf.GradientTape() as tape:
        tape.watch([x, shift])
        y = progressive_sign(
            x,
            shift,
            scale=SCALE,
            uniform=tf.constant(uniform, tf.float32),
            fraction=tf.constant(fraction),
        )
    return y.numpy(), *tape.gradient(y, [x, shift], tf.constant(upstream))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_value_and_gradients(fraction):
    uniform, upstream = RNG.random(X.shape), RNG.normal(size=X.shape)
    value, d_x, d_shift = value_and_gradients(X, uniform, fraction, upstream)
    mask = np.float32(uniform) < np.float32(fraction)
    assert_array_equal(mask.all(), fraction == 1.0)
    assert_array_equal(mask.any(), fraction > 0.0)
    assert_allclose(value, mixture(X, mask), rtol=1e-12)
    # The derivative of what is clipped, whether it is a sign or not.
    inside = upstream * (np.abs(SCALE * X + SHIFT) <= 1)
    assert_allclose(d_x, SCALE * inside, rtol=1e-12)
    assert_allclose(d_shift, inside.sum(0), rtol=1e-9)


def test_each_entry_is_a_sign_with_the_probability_of_the_fraction():
    count, fraction = 100_000, 0.25
    layer = ProgressiveSign(fraction=fraction)
    x = tf.constant(np.full((count, 4), 0.5, np.float32))
    y = layer(x, training=True).numpy()
    assert set(np.unique(y)) == {0.5, 1.0}
    # Five standard deviations: wrong once in 400,000 seeds for the four together.
    bound = 5 * np.sqrt(fraction * (1 - fraction) / count)
    assert np.abs((y == 1).mean(0) - fraction).max() < bound
    correlation = np.corrcoef(y.T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(count)


def test_every_step_draws_again_and_a_seed_repeats_it():
    x, layer = tf.fill((50, 40), 0.5), ProgressiveSign(fraction=0.5)
    first, second = (layer(x, training=True).numpy() for _ in range(2))
    assert 0.4 < (first != second).mean() < 0.6
    keras.utils.set_random_seed(51)
    assert_array_equal(ProgressiveSign(fraction=0.5)(x, training=True), first)


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_at_inference_it_is_a_sign_with_a_threshold(fraction):
    x = np.float32(X)
    layer = ProgressiveSign(SCALE, fraction=fraction)
    usual = RSign(SCALE, estimator="ste_sign")
    expected = []
    for each in (layer, usual):
        each(x)
        each.shift.assign(SHIFT)
        expected.append(each(x).numpy())
    assert_array_equal(*expected)
    assert_array_equal(expected[0], np.where(SCALE * x + np.float32(SHIFT) >= 0, 1, -1))
    assert_array_equal(layer(x, training=False), expected[0])


def network(fraction=0.5):
    inputs = keras.Input((2, 2, 8))
    x = keras.layers.BatchNormalization()(inputs)
    x = binary_conv(
        8,
        name="conv",
        input_quantizer=ProgressiveSign(fraction=fraction),
        kernel_quantizer="scaled_std_sign",
        kernel_constraint=None,
    )(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation(ProgressiveSign(shift=False, offset=0.3))(x)
    model = keras.Model(inputs, x)
    for weight in model.weights:
        if "fraction" not in weight.name:
            weight.assign(weight + RNG.uniform(0, 0.3, weight.shape))
    return model


def test_surgery_sees_the_sign_of_inference():
    model, x = network(), RNG.normal(size=(64, 2, 2, 8)).astype("f4")
    folded = nobn.fold_batch_norm(model)
    assert (folded(x).numpy() == model(x).numpy()).mean() > 0.999
