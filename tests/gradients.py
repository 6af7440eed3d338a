"""Evaluates a layer and its gradients, for comparison with a NumPy oracle."""

import numpy as np
import tensorflow as tf
from numpy.testing import assert_allclose


def value_and_gradients(layer, x, upstream):
    """Output, input gradient and a dict of weight gradients, all as float64 arrays."""
    x = tf.convert_to_tensor(x)
    layer(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * tf.cast(upstream, y.dtype))
    names = [w.name.split("/")[-1].split(":")[0] for w in layer.trainable_weights]
    d_x, *d_weights = tape.gradient(loss, [x, *layer.trainable_weights])
    wide = [np.asarray(t, np.float64) for t in (y, d_x)]
    return *wide, {
        name: np.asarray(g, np.float64)
        for name, g in zip(names, d_weights, strict=True)
    }


def finite_differences(function, x, step=1e-6):
    """Central differences of a scalar function of a float64 array."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = np.array(x), np.array(x)  # of a number, too
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def assert_is_gradient(gradient, function, x, tolerance=1e-6, step=1e-6):
    """Central differences along three random lines, which no wrong element escapes."""
    rng = np.random.default_rng(28)
    for _ in range(3):
        line = rng.normal(size=np.shape(x))
        slope = function(x + step * line) - function(x - step * line)
        expected = np.vdot(line, gradient)
        assert_allclose(slope / (2 * step), expected, rtol=tolerance, atol=tolerance)
