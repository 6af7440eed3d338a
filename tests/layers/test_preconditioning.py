"""Preconditioned layers: the rule, whatever layer is inside, and the averages."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.layers import BatchNormalizationPreconditioning
from numpy.testing import assert_allclose, assert_array_equal

BINARY = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}
STRIDES = {"strides": 2, "activation": "tanh", "padding": "same", "pad_values": 1.0}
STRIDES |= BINARY
SCALED = {"kernel_quantizer": "scaled_std_sign", "input_quantizer": "rsign"}
FIRST = {"data_format": "channels_first"}
conv, quant = keras.layers, lq.layers
IMAGE = (2, 5, 6, 3)
LAYERS = {
    "dense": (conv.Dense, (4,), {"activation": "relu"}, (2, 5, 3)),
    "first": (conv.Conv1D, (4, 3), FIRST, (2, 3, 7)),
    "groups": (conv.Conv2D, (6, 3), {"groups": 2}, (2, 5, 6, 4)),
    "strides": (quant.QuantConv2D, (4, 3), STRIDES, IMAGE),
    "scaled": (quant.QuantConv2D, (4, 3), SCALED, IMAGE),
    "3d": (quant.QuantConv3D, (4, 2), BINARY, (2, 3, 4, 3, 3)),
}


def layer_and_input(kind):
    cls, positional, kwargs, shape = LAYERS[kind]
    x = np.random.default_rng(41).normal(0.3, 0.8, size=shape)
    dtype = keras.mixed_precision.global_policy().compute_dtype
    return cls(*positional, **kwargs), tf.cast(x, dtype)


def value_and_gradients(call, layer, x):
    """Under an upstream gradient that differs at every place."""
    weights = layer.trainable_weights
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x)
        g = tf.sin(tf.range(tf.cast(tf.size(y), tf.float32)))
        loss = tf.reduce_sum(y * tf.cast(tf.reshape(g, tf.shape(y)), y.dtype))
    d_x, *d_weights = tape.gradient(loss, [x, *weights])
    names = [w.name.split("/")[-1].split(":")[0] for w in weights]
    return y, d_x, dict(zip(names, d_weights, strict=True))


def all_three(layer, wrapper, x):
    """Of the layer, and of the wrapper at inference and in training."""
    calls = (layer, lambda x: wrapper(x, training=False))
    calls += (lambda x: wrapper(x, training=True),)
    return [value_and_gradients(call, layer, x) for call in calls]


@pytest.mark.parametrize("place, kind", [*enumerate(LAYERS)])
def test_all_but_the_weight_gradients_in_training_is_the_layers_own(place, kind):
    """Of every layer, in turn eagerly and in a graph."""
    layer, x = layer_and_input(kind)
    wrapper = BatchNormalizationPreconditioning(layer)
    wrapper(x)
    run = tf.function(all_three, autograph=False) if place % 2 else all_three
    alone, *both = run(layer, wrapper, x)
    for actual in both:
        assert_array_equal(actual[0], alone[0])
        assert_array_equal(actual[1], alone[1])
    for name, gradient in both[0][2].items():
        assert_array_equal(gradient, alone[2][name], name)
    if kind != "scaled":  # whose gradient passes the quantizer afterwards
        expected = weight_gradients(kind, layer, x, alone[2])
        # Glorot's kernels are within the straight-through window of ±1.
        for name, gradient in expected.items():
            assert_allclose(both[1][2][name], gradient, rtol=1e-3, atol=1e-3)


def weight_gradients(kind, layer, x, alone):
    """The rule in NumPy, unit by unit, from the gradients of the layer itself."""
    g_w, g_b = np.asarray(alone["kernel"]), np.asarray(alone["bias"])
    seen = np.asarray(x if "input_quantizer" not in LAYERS[kind][2] else np.sign(x))
    last = np.moveaxis(seen, 1, -1) if kind == "first" else seen
    mean = last.reshape(-1, last.shape[-1]).mean(0)
    square = last.reshape(-1, last.shape[-1]).var(0)
    groups, (inputs, units) = getattr(layer, "groups", 1), g_w.shape[-2:]
    along, across = np.empty_like(g_w), g_b.copy()
    for unit in range(units):
        start = unit // (units // groups) * inputs
        mu, var = mean[start : start + inputs], square[start : start + inputs]
        var = np.maximum(var, 0.01 * var.max()) + 1e-4
        along[..., unit] = (g_w[..., unit] - mu * g_b[unit]) / var
        across[unit] -= (mu * along[..., unit]).sum()
    return {"kernel": along, "bias": across}


def test_averages_are_even_at_first_and_then_run_unless_frozen():
    rng = np.random.default_rng(44)
    batches = rng.normal(2.0, 3.0, size=(5, 8, 3))
    layer = keras.layers.Dense(2, dtype="float64")
    wrapper = BatchNormalizationPreconditioning(layer, momentum=0.6)
    mean, variance = np.zeros(3), np.zeros(3)
    for x, kept in zip(batches, [0, 1 / 2, 0.6, 0.6, 0.6], strict=True):
        wrapper(x, training=False)
        wrapper(x, training=True)
        mean = kept * mean + (1 - kept) * x.mean(0)
        variance = kept * variance + (1 - kept) * x.var(0)
        assert_allclose(wrapper.moving_mean, mean)
        assert_allclose(wrapper.moving_variance, variance)
    wrapper.trainable = False
    wrapper(batches[0], training=True)
    assert wrapper.batches == 5
    assert_allclose(wrapper.moving_mean, mean)


def test_quantizers_run_once_and_penalties_count_once():
    calls = []

    def counting(kind):
        return lambda x: calls.append(kind) or lq.math.sign(x)

    layer = lq.layers.QuantDense(
        *(2, "tanh"),
        input_quantizer=counting("input"),
        kernel_quantizer=counting("kernel"),
        kernel_regularizer="l2",
        activity_regularizer="l2",
    )
    x = tf.random.stateless_normal((4, 3), (1, 2))
    layer(x)
    alone, calls[:] = [loss.numpy() for loss in layer.losses], []
    wrapper = BatchNormalizationPreconditioning(layer)
    wrapper(x, training=True)
    assert calls == ["input", "kernel"]
    assert_array_equal([loss.numpy() for loss in wrapper.losses], alone)
