import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn.quantizers import RSign, SigmoidSign
from numpy.testing import assert_allclose, assert_array_equal


def test_published_numbers():
    x = np.array([0.0, 0.25, 0.5, 1.0])
    layer = SigmoidSign(dtype="float64")
    value, d_x, _ = value_and_gradients(layer, x, np.ones(4))
    assert_array_equal(value, 1)
    assert_allclose(d_x, [1.5, 1.3073700, 0.8948787, 0.2710600], rtol=1e-6)


@pytest.mark.parametrize("slope", [0.5, 3.0, 10.0])
def test_slope_is_that_of_a_step_of_height_two(slope):
    x = np.linspace(-60, 60, 120001)
    _, d_x, _ = value_and_gradients(SigmoidSign(slope, dtype="float64"), x, x * 0 + 1)
    # The derivative of tanh(ax/2) = 2s(ax) - 1.
    assert_allclose(d_x, slope / 2 / np.cosh(slope * x / 2) ** 2, rtol=1e-9)
    assert np.all(d_x > 0)
    assert_allclose(np.sum(d_x) * 1e-3, 2, rtol=1e-6)


def test_is_the_estimator_of_rsign():
    x = np.random.default_rng(32).normal(size=(5, 4)).astype(np.float32)
    upstream = np.random.default_rng(33).normal(size=x.shape).astype(np.float32)
    plain = value_and_gradients(SigmoidSign(), x, upstream)
    shifted = value_and_gradients(RSign(estimator="sigmoid_sign"), x, upstream)
    assert_array_equal(plain[0], shifted[0])
    assert_array_equal(plain[1], shifted[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_far_inputs_have_finite_gradients(dtype):
    largest = float(tf.as_dtype(dtype).max)
    x = tf.constant([-largest, -1e4, -0.0, 0.0, 1e4, largest], dtype)
    value, d_x, _ = value_and_gradients(SigmoidSign(), x, np.ones(6))
    assert_array_equal(value, [-1, -1, 1, 1, 1, 1])
    assert_array_equal(d_x, [0, 0, 1.5, 1.5, 0, 0])


@pytest.mark.parametrize(
    "slope, error, message",
    [
        (0, ValueError, r"slope=0 is outside \(0, inf\). The paper's is 3"),
        (None, TypeError, "slope=None is not a number"),
    ],
)
def test_rejects(slope, error, message):
    with pytest.raises(error, match=message):
        SigmoidSign(slope)
