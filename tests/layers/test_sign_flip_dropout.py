import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.layers import SignFlipDropout
from numpy.testing import assert_array_equal


def signs(*shape, dtype="float32"):
    return np.random.default_rng(60).choice([-1.0, 1.0], shape).astype(dtype)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(61)


def test_half_of_the_replaced_signs_flip_and_kept_ones_alone_pass_gradients():
    x, rate = tf.constant(signs(100, 400)), 0.3
    upstream = np.random.default_rng(62).normal(size=x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = SignFlipDropout(rate)(x, training=True)
    x, y, d_x = (np.asarray(t) for t in (x, y, tape.gradient(y, x, upstream)))
    assert set(np.unique(y)) == {-1, 1}
    kept, flipped = d_x != 0, y != x
    assert_array_equal(d_x[kept], upstream[kept])
    assert not flipped[kept].any()
    sigma = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < 4 * sigma
    for value in (-1, 1):  # as often from either side, of whose half a fair coin
        share = flipped[(x == value) & ~kept].mean()
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(rate * kept.size / 2)


def test_at_inference_and_at_rate_0_nothing_happens():
    x = signs(20, 30)
    assert_array_equal(SignFlipDropout(0.9)(x), x)
    assert_array_equal(SignFlipDropout(0.9)(x, training=False), x)
    assert_array_equal(SignFlipDropout(0.0)(x, training=True), x)


def test_every_call_draws_again_and_a_seed_repeats_them():
    x, layer = signs(20, 30), SignFlipDropout(0.5)
    first, second = (layer(x, training=True).numpy() for _ in range(2))
    assert (first != second).any()
    keras.utils.set_random_seed(61)
    assert_array_equal(layer(x, training=True), first)
