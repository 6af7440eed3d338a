import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.layers._groups import check_groups, group_mean, group_moments
from numpy.testing import assert_allclose, assert_array_equal


def oracle(x, groups):
    """Mean and variance of every group, spread over its channels."""
    mean, variance = np.empty_like(x), np.empty_like(x)
    each = x.shape[-1] // groups
    for n in range(x.shape[0]):
        for first in range(0, x.shape[-1], each):
            group = x[n, ..., first : first + each]
            mean[n, ..., first : first + each] = group.mean()
            variance[n, ..., first : first + each] = group.var()
    return mean, variance


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (3, 6), (2, 5, 6), (2, 2, 3, 2, 6)])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_moments(shape, groups):
    x = np.random.default_rng(40).normal(2, 3, shape)
    for found, expected in zip(
        group_moments(tf.constant(x), groups), oracle(x, groups), strict=True
    ):
        ones = (1,) * (len(shape) - 2)
        assert found.shape == (shape[0], *ones, 1 if groups == 1 else 6)
        assert_allclose(np.broadcast_to(found, shape), expected, rtol=1e-12, atol=1e-15)


def test_a_batch_and_positions_of_unknown_size():
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 6))])
    def mean(x):
        return group_mean(x, 3)

    x = np.random.default_rng(41).normal(size=(2, 3, 4, 6)).astype(np.float32)
    assert_allclose(mean(x), group_mean(tf.constant(x), 3), rtol=1e-6)


def test_half_precision_is_summed_in_float32():
    x = tf.fill((1, 8, 8, 4), tf.constant(3e4, tf.float16))
    mean, variance = group_moments(x, 2)
    assert mean.dtype == variance.dtype == tf.float32
    assert_array_equal(mean, np.full((1, 1, 1, 4), np.float32(np.float16(3e4))))
    assert_array_equal(variance, np.zeros((1, 1, 1, 4)))


def test_a_large_mean_does_not_swallow_the_variance():
    x = np.random.default_rng(42).normal(1e4, 1, (1, 16, 16, 2)).astype(np.float32)
    _, variance = group_moments(tf.constant(x), 1)
    assert_allclose(np.squeeze(variance), x.astype(np.float64).var(), rtol=1e-3)


def test_groups_divide_the_channels():
    check_groups("Norm", 4, (2, 3, 3, 12))
    with pytest.raises(
        ValueError,
        match="Norm got an input of 12 channels, which groups=5 does not divide. Set "
        "groups to one of 1, 2, 3, 4, 6, 12,",
    ):
        check_groups("Norm", 5, (2, 3, 3, 12))
