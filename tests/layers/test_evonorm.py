import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences, value_and_gradients
from larq_nobn.layers import EvoNormS0
from numpy.testing import assert_allclose, assert_array_equal


def oracle(x, v, gamma, beta, groups, epsilon):
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        for c in np.split(np.arange(x.shape[-1]), groups):
            of = x[n][..., c]
            gate = 1 / (1 + np.exp(-v[c] * of))
            y[n][..., c] = gamma[c] * of * gate / np.sqrt(of.var() + epsilon) + beta[c]
    return y


def test_published_numbers():
    layer = EvoNormS0(groups=1, dtype="float64")
    expected = [0.6538760554, 1.5756114102, 2.5560143774, 3.5133452896]
    in_channels = tf.constant([[1.0, 2.0, 3.0, 4.0]], tf.float64)
    assert_allclose(layer(in_channels)[0], expected, rtol=1e-9)
    in_space = tf.reshape(in_channels, (1, 2, 2, 1))
    again = EvoNormS0(groups=1, dtype="float64")(in_space)
    assert_allclose(np.ravel(again), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "shape, groups",
    [
        ((2, 3, 4, 6), 1),
        ((2, 3, 4, 6), 3),
        ((2, 3, 4, 6), 6),
        ((3, 5, 4), 2),
        ((4, 6), 2),
        ((2, 2, 3, 2, 4), 2),
    ],
)
def test_value_and_gradients(shape, groups):
    rng = np.random.default_rng(34)
    x, upstream = rng.normal(0.5, 1, shape), rng.normal(size=shape)
    weights = {
        "v": rng.normal(1, 0.5, shape[-1]),
        "gamma": rng.normal(size=shape[-1]),
        "beta": rng.normal(size=shape[-1]),
    }
    layer = EvoNormS0(groups, epsilon=0.05, dtype="float64")
    layer.build(shape)
    for name, array in weights.items():
        getattr(layer, name).assign(array)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)

    def loss(x, **changed):
        y = oracle(x, **{**weights, **changed}, groups=groups, epsilon=0.05)
        return np.sum(upstream * y)

    expected = oracle(x, **weights, groups=groups, epsilon=0.05)
    assert_allclose(value, expected, rtol=1e-12)
    assert_allclose(d_x, finite_differences(loss, x), atol=1e-6)
    for name in weights:
        gradient = finite_differences(
            lambda w, name=name: loss(x, **{name: w}), weights[name]
        )
        assert_allclose(d_weights[name], gradient, atol=1e-6)


def test_large_maps_agree_to_rounding():
    """Inside a graph, where such a map is compiled as one loop."""
    rng = np.random.default_rng(35)
    x = rng.normal(3, 1, (8, 24, 24, 16)).astype(np.float32)
    upstream = rng.normal(size=x.shape).astype(np.float32)
    wide = EvoNormS0(4, dtype="float64")
    expected = value_and_gradients(wide, x.astype(np.float64), upstream)
    layer = EvoNormS0(4)
    layer.build(x.shape)
    value, d_x = tf.function(
        lambda x: _value_and_slope(layer, x, upstream), autograph=False
    )(tf.constant(x))
    assert_allclose(value, expected[0], atol=1e-5)
    assert_allclose(d_x, expected[1], atol=1e-5)


def _value_and_slope(layer, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * upstream)
    return y, tape.gradient(loss, x)


def test_keeps_the_sign_and_bounds_the_negative_side():
    x = np.random.default_rng(36).normal(size=(4, 6, 6, 8)).astype(np.float32)
    y = np.asarray(EvoNormS0(groups=2)(x))
    assert_array_equal(np.sign(y), np.sign(x))
    sigma = x.reshape(4, 36, 2, 4).std((1, 3))[:, None, None, :, None]
    # min x·s(x) = -0.2785
    assert np.all(y.reshape(4, 6, 6, 2, 4) * sigma >= -0.27847)


def test_float16_does_not_overflow():
    x = 1e4 * np.random.default_rng(38).choice([-1.0, 3.0], (2, 8, 8, 4))
    x, upstream = tf.cast(x, tf.float16), np.ones(x.shape)
    layer = EvoNormS0(groups=2)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    # So far out x·s(x) is a ReLU, and epsilon nothing.
    sigma = np.asarray(x, np.float64).reshape(2, 64, 2, 2).std((1, 3), keepdims=True)
    rectified = np.maximum(np.asarray(x, np.float64), 0).reshape(2, 64, 2, 2)
    assert_allclose(value.reshape(2, 64, 2, 2), rectified / sigma, rtol=2e-3)
    for found in (d_x, *d_weights.values()):
        assert np.isfinite(found).all()


def test_constant_inputs_are_finite():
    x = tf.fill((2, 4, 4, 4), 3.0)
    value, d_x, _ = value_and_gradients(EvoNormS0(groups=2), x, np.ones(x.shape))
    assert_allclose(value, 3 / (1 + np.exp(-3)) / np.sqrt(1e-5), rtol=1e-5)
    assert np.isfinite(d_x).all()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"groups": 0}, ValueError, "groups=0 is below 1. The paper's is 32"),
        ({"groups": 2.0}, TypeError, "groups=2.0 is not a whole number"),
        ({"epsilon": 0.0}, ValueError, r"epsilon=0.0 is outside \(0, inf\)"),
        ({"epsilon": "small"}, TypeError, "epsilon='small' is not a number"),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        EvoNormS0(**arguments)


def test_rejects_groups_that_do_not_divide():
    message = "EvoNormS0 got an input of 48 channels, which groups=32 does not divide"
    with pytest.raises(ValueError, match=message):
        EvoNormS0().build((None, 8, 8, 48))


@pytest.mark.parametrize("shape", [(3, 8), (3, 1, 1, 8)])
def test_rejects_groups_of_one_value(shape):
    with pytest.raises(ValueError, match="every group is a single value"):
        EvoNormS0(groups=8).build(shape)
    EvoNormS0(groups=4).build(shape)  # two channels have a variance
