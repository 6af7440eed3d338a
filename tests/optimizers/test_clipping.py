"""The arithmetic of the clipping, against a loop in float64 and its own invariants."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.optimizers import adaptive_gradient_clip
from larq_nobn.optimizers._clipping import clip_gradients
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.networks import clip

ROLES = [
    *(((3, 3, 4, 5), (0, 1, 2)), ((3, 3, 5, 4), (0, 1, 3)), ((), ()), ((3, 4), ()))
]


def draw(shape, seed, scale=1.0):
    values = np.random.default_rng(seed).normal(size=shape) * scale
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("shape, axes", ROLES)
def test_the_loop_and_invariants(shape, axes):
    gradient, weight = draw(shape, 3), draw(shape, 4)
    clipped = adaptive_gradient_clip(gradient, weight, axes, 0.02).numpy()
    assert clipped.shape == shape
    assert_allclose(clipped, clip(gradient, weight, axes, 0.02), rtol=2e-6)

    norms = np.sqrt(np.sum(np.square(clipped), axes))
    limits = 0.02 * np.maximum(np.sqrt(np.sum(np.square(weight), axes)), 1e-3)
    assert np.all(norms <= limits * (1 + 1e-5))  # the bound

    again = adaptive_gradient_clip(clipped, weight, axes, 0.02)
    assert_allclose(again, clipped, rtol=1e-6)  # idempotent

    free = adaptive_gradient_clip(gradient, weight, axes, float("inf"))
    assert_array_equal(free, gradient)


@pytest.mark.parametrize("shape, axes", ROLES)
def test_small_gradients_are_scaled_up(shape, axes):
    gradient, weight = draw(shape, 3, 0.1), draw(shape, 4)
    scaled = adaptive_gradient_clip(gradient, weight, axes, 0.15, lower_factor=0.1)
    assert_allclose(scaled, clip(gradient, weight, axes, 0.15, lower=0.1), rtol=2e-6)
    nothing = adaptive_gradient_clip(0 * gradient, weight, axes, 0.15, lower_factor=0.1)
    assert_array_equal(nothing, 0 * gradient)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_within_the_limit_bitwise_identical_in_every_type(dtype):
    gradient = tf.cast(draw((4, 3), 5, 1e-3), dtype)
    clipped = adaptive_gradient_clip(gradient, draw((4, 3), 6), (0,), 1.0)
    assert clipped.dtype == dtype
    assert_array_equal(clipped, gradient)


def test_float16_norms_do_not_overflow():
    gradient = tf.fill((4, 2), tf.constant(300.0, tf.float16))  # 300^2 > 65504
    clipped = adaptive_gradient_clip(gradient, tf.ones((4, 2), tf.float16), (0,), 0.5)
    # The norm of four weights is 2, the limit 1, each of four equal parts 0.5.
    assert_allclose(clipped, np.full((4, 2), 0.5), rtol=1e-3)


def test_the_batched_form_against_the_loop():
    """Units of every shape at once, and one that is not clipped."""
    roles = [*ROLES, ((4,), None), ((1, 2, 3), (0, 1, 2)), ((2, 3), (1,))]
    for seed, (scale, clip_factor) in enumerate(((1.0, 1e-4), (1e-6, 0.1), (1e12, 1))):
        gradients = [draw(s, (seed, i), scale) for i, (s, _) in enumerate(roles)]
        weights = [draw(s, (seed, i, 1)) for i, (s, _) in enumerate(roles)]
        axes, names = [axes for _, axes in roles], [str(i) for i in range(len(roles))]
        given = [tf.constant(gradient) for gradient in gradients]
        lower = [clip_factor / 2 * (i % 2) for i in range(len(roles))]
        how = (clip_factor, 1e-3, names, lower)
        clipped = clip_gradients(given, weights, axes, *how)
        for i, gradient in enumerate(gradients):
            factors = clipped.factors.numpy()[clipped.owners == i]
            expected = gradient
            if axes[i] is None:
                assert factors.size == 0
            else:  # one for each unit, in order
                expected = clip(
                    gradient, weights[i], axes[i], clip_factor, lower=lower[i]
                )
                norms = np.sqrt(np.sum(np.square(gradient.astype(float)), axes[i]))
                result = np.sqrt(np.sum(np.square(expected.astype(float)), axes[i]))
                assert_allclose(factors * norms.ravel(), result.ravel(), rtol=5e-6)
            assert clipped.gradients[i].shape == gradient.shape
            assert_allclose(clipped.gradients[i], expected, rtol=5e-6)


NAMES = ["kernel", "bias", "head/kernel"]


def step(*tensors):
    axes, ones = [(0,), (0,), None], [tf.ones_like(each) for each in tensors]
    return clip_gradients(tensors, ones, axes, 0.5, 1e-3, NAMES).gradients


STEPS = {
    compiled: tf.function(step, jit_compile=compiled) for compiled in (False, True)
}


def batch(gradients, compiled=False):
    """Clips a kernel, a bias and an unclipped head; all weights are one."""
    return [out.numpy() for out in STEPS[compiled](*map(tf.constant, gradients))]


def finite():
    return [draw((4, 2), 7), draw((4,), 8), draw((4, 3), 9)]


@pytest.mark.parametrize("compiled", [False, True])
def test_enormous_finite_gradients_keep_their_direction(compiled):
    gradients = finite()
    gradients[0] = gradients[0] * np.float32(1e30)
    gradients[2] = gradients[2] * np.float32(1e30)
    kernel, bias, head = batch(gradients, compiled)
    assert_allclose(kernel, clip(gradients[0], np.ones((4, 2)), (0,), 0.5), rtol=1e-5)
    assert_allclose(bias, clip(gradients[1], np.ones(4), (0,), 0.5), rtol=1e-5)
    assert_array_equal(head, gradients[2])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_assertions_the_affected_units_get_zero(bad):
    gradients = finite()
    for gradient in gradients:
        gradient[1, ..., None][0] = bad
    kernel, bias, head = batch(gradients, compiled=True)
    assert_array_equal(kernel[:, 0], np.zeros(4))
    unaffected = clip(finite()[0][:, 1:], np.ones((4, 1)), (0,), 0.5)
    assert_allclose(kernel[:, 1:], unaffected, rtol=1e-6)
    assert_array_equal(bias, np.zeros(4))
    assert_array_equal(head, np.zeros((4, 3)))
