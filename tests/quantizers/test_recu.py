import numpy as np
import pytest
from gradients import value_and_gradients
from larq_nobn.quantizers import ReCU
from numpy.testing import assert_allclose, assert_array_equal

KERNEL = np.array([[1.0], [2.0], [3.0], [4.0]])


@pytest.mark.parametrize(
    "tau, mask",
    [
        (0.69, [0, 0, 0, 0]),  # Q/b = 0.478, Q = 1.047
        (0.88, [0, 1, 1, 0]),  # Q/b = 1.427, Q = 3.127
        (0.89, [1, 1, 1, 1]),  # Q/b = 1.514, Q = 3.317
    ],
)
def test_published_numbers(tau, mask):
    """W = 1, 2, 3, 4: |w1| = 3.29, 1.10, b = 2.19, so Q(.85) = 2.64 masks the ends."""
    layer = ReCU(tau, dtype="float64")
    layer.build(KERNEL.shape)
    layer.alpha.assign([0.5])
    upstream = np.array([[1.0], [-2.0], [0.5], [3.0]])
    value, actual, _ = value_and_gradients(layer, KERNEL, upstream)
    assert_array_equal(value[:, 0], [-0.5, -0.5, 0.5, 0.5])
    h, d = 0.5 * np.array(mask) * upstream[:, 0], KERNEL[:, 0] - 2.5
    variance = 5 / 3 + 1e-5
    expected = h - h.mean() - d * (h @ d) / (3 * variance)
    assert_allclose(actual[:, 0], np.sqrt(8 / variance) * expected, rtol=1e-12)


def clamped(kernel, tau):
    """Which weights get no gradient, for filters that hold -w with every w.

    There, in every filter, the weights inside the clamp sum to 0, and an upstream
    gradient of 1 becomes a multiple of the mask less its mean.
    """
    layer = ReCU(tau, dtype="float64")
    layer.build(kernel.shape)
    layer.alpha.assign(np.ones(kernel.shape[-1]))
    _, d_kernel, _ = value_and_gradients(layer, kernel, np.ones_like(kernel))
    return d_kernel < -1e-6


def test_filters_share_the_mean_magnitude():
    half = np.stack([np.random.default_rng(32).laplace(size=500), np.ones(500)], 1)
    kernel = np.concatenate([half, -half])
    standardized = np.sqrt(8) * kernel / kernel.std(0, ddof=1)
    limit = np.abs(standardized).mean() * 1.2039728
    assert_array_equal(clamped(kernel, 0.85), np.abs(standardized) > limit)


def test_tau_is_the_argument_first_and_the_saved_variable_then():
    layer = ReCU(tau=0.9)
    assert layer.tau == 0.9
    layer.build((3, 3, 4, 5))
    assert_allclose(layer.tau.numpy(), 0.9, rtol=1e-6)
    layer.tau.assign(0.99)
    assert layer.get_config()["tau"] == 0.9


def test_alpha_starts_uniform():
    layer = ReCU()
    layer.build((1, 1, 2, 10_000))
    alpha = layer.alpha.numpy()
    assert alpha.min() >= 0 and alpha.max() <= 1
    # Deciles of 10,000 draws lie within four standard errors, 0.02, of a tenth.
    assert_allclose(np.quantile(alpha, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)
