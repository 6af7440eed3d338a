import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences, value_and_gradients
from larq_nobn.layers import FilterResponseNormalization
from numpy.testing import assert_allclose


def oracle(x, gamma, beta, epsilon):
    axes = tuple(range(1, x.ndim - 1))
    nu2 = np.mean(x**2, axes, keepdims=True) if axes else x**2
    return gamma * x / np.sqrt(nu2 + epsilon) + beta


def test_published_number():
    x = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), (1, 2, 2, 1))
    upstream = tf.reshape(tf.constant([1.0, 0.0, 0.0, 0.0]), x.shape)
    layer = FilterResponseNormalization()
    value, d_x, _ = value_and_gradients(layer, x, upstream)
    assert_allclose(
        value.ravel(), [0.3651483, 0.7302967, 1.0954450, 1.4605934], rtol=1e-6
    )
    assert_allclose(
        d_x.ravel(),
        [0.3529767374, -0.0243432199, -0.0365148299, -0.0486864398],
        rtol=1e-5,
    )


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (3, 5, 3), (2, 2, 3, 2, 3), (4, 3)])
def test_value_and_gradients(shape):
    rng = np.random.default_rng(16)
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    weights = {
        "gamma": rng.normal(size=3),
        "beta": rng.normal(size=3),
        "learned_epsilon": np.array([0.2, -0.1, 0.4]),
    }
    layer = FilterResponseNormalization(
        epsilon=0.05, learned_epsilon=True, dtype="float64"
    )
    layer.build(shape)
    for name, array in weights.items():
        getattr(layer, name).assign(array)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)

    def loss(x, **changed):
        w = {**weights, **changed}
        epsilon = 0.05 + np.abs(w["learned_epsilon"])
        return np.sum(upstream * oracle(x, w["gamma"], w["beta"], epsilon))

    epsilon = 0.05 + np.abs(weights["learned_epsilon"])
    expected = oracle(x, weights["gamma"], weights["beta"], epsilon)
    assert_allclose(value, expected, rtol=1e-12)
    assert_allclose(d_x, finite_differences(loss, x), atol=1e-6)
    for name in weights:
        gradient = finite_differences(
            lambda w, name=name: loss(x, **{name: w}), weights[name]
        )
        assert_allclose(d_weights[name], gradient, atol=1e-6)


def test_invariants():
    rng = np.random.default_rng(17)
    x = rng.normal(size=(4, 6, 6, 3)).astype(np.float32)
    layer = FilterResponseNormalization(epsilon=1e-12)
    value, d_x, _ = value_and_gradients(layer, x, rng.normal(size=x.shape))
    assert_allclose((value**2).mean((1, 2)), 1, rtol=1e-5)
    assert_allclose(layer(7 * x), value, rtol=1e-5)
    assert_allclose((d_x * x).sum((1, 2)), 0, atol=1e-4)


def test_float16_does_not_overflow():
    x = tf.fill((1, 4, 4, 2), tf.constant(1e3, tf.float16))
    assert_allclose(FilterResponseNormalization(dtype="mixed_float16")(x), 1, rtol=1e-3)


def test_center_and_scale_are_optional():
    layer = FilterResponseNormalization(center=False, scale=False)
    layer.build((2, 4, 4, 3))
    assert layer.weights == []


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"epsilon": 0.0}, ValueError, r"epsilon=0.0 is outside \(0, inf\)"),
        ({"epsilon": None}, TypeError, "epsilon=None is not a number"),
        ({"learned_epsilon": 1e-4}, TypeError, "learned_epsilon=0.0001 is neither"),
        ({"center": 1}, TypeError, "center=1 is neither"),
        ({"scale": "no"}, TypeError, "scale='no' is neither"),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        FilterResponseNormalization(**arguments)


def test_rejects_inputs_without_positions():
    with pytest.raises(ValueError, match=r"rank-2 input of shape \(3, 8\)"):
        FilterResponseNormalization().build((3, 8))
