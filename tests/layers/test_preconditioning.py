import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.layers._preconditioning import limited, preconditioned
from numpy.testing import assert_allclose, assert_array_equal

BINARY = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}
SAME_ONE = {"padding": "same", "pad_values": 1.0, **BINARY}
FIRST = {"data_format": "channels_first"}
LAYERS = {
    "dense": (keras.layers.Dense, (4,), {"activation": "relu"}, (5, 3)),
    "dense-3": (keras.layers.Dense, (4,), {}, (2, 5, 3)),
    "quant-dense": (lq.layers.QuantDense, (4,), BINARY, (5, 3)),
    "causal": (keras.layers.Conv1D, (4, 3), {"padding": "causal"}, (2, 7, 3)),
    "quant-causal": (
        *(lq.layers.QuantConv1D, (4, 3), {"padding": "causal", **BINARY}),
        (2, 7, 3),
    ),
    "first": (keras.layers.Conv1D, (4, 3), FIRST, (2, 3, 7)),
    "groups": (keras.layers.Conv2D, (6, 3), {"groups": 2}, (2, 5, 6, 4)),
    "dilation": (keras.layers.Conv2D, (4, 2), {"dilation_rate": 2}, (2, 5, 6, 3)),
    "same-zero": (
        *(lq.layers.QuantConv2D, (4, 3), {"padding": "same", **BINARY}),
        (2, 5, 6, 3),
    ),
    "same-one": (lq.layers.QuantConv2D, (4, 3), SAME_ONE, (2, 5, 6, 3)),
    "strides": (
        *(lq.layers.QuantConv2D, (4, 3)),
        *({"strides": 2, "activation": "tanh", **SAME_ONE}, (2, 5, 6, 3)),
    ),
    "scaled": (
        *(lq.layers.QuantConv2D, (4, 3)),
        *({"kernel_quantizer": "scaled_std_sign", "input_quantizer": "rsign"},),
        (2, 5, 6, 3),
    ),
    "3d": (lq.layers.QuantConv3D, (4, 2), BINARY, (2, 3, 4, 3, 3)),
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


def test_published_numbers():
    mean, variance = tf.constant([[1.0], [2.0]]), tf.constant([[4.0], [1.0]])
    d_kernel, d_bias = preconditioned(
        tf.constant([[3.0], [5.0]]), tf.constant([2.0]), mean, variance
    )
    assert_array_equal(d_kernel, [[0.25], [1.0]])
    assert_array_equal(d_bias, [-0.25])


def test_standardized_inputs_change_nothing():
    rng = np.random.default_rng(42)
    kernel, bias = rng.normal(size=(3, 3, 4, 5)), rng.normal(size=5)
    zero, one = np.zeros((4, 1)), np.ones((4, 1))
    found = preconditioned(*map(tf.constant, (kernel, bias, zero, one)))
    assert_array_equal(found[0], kernel)
    assert_array_equal(found[1], bias)


def test_limited_variances():
    variance = tf.constant([[4.0, 1.0], [0.0, 0.5]])
    assert_allclose(limited(variance, 0.1), [[4.1, 1.1], [0.14, 0.6]], rtol=1e-6)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (keras.layers.Dense(4, dtype="float64"), (6, 3)),
        (keras.layers.Conv2D(4, 2, strides=2, dtype="float64"), (6, 5, 4, 3)),
    ],
    ids=["dense", "convolution"],
)
def test_a_step_is_one_of_the_batch_normalized_layer(layer, shape):
    rng = np.random.default_rng(43)
    x = rng.normal([1.0, -2.0, 0.5], [1.0, 0.4, 2.0], size=shape)
    wrapper = nobn.layers.BatchNormalizationPreconditioning(layer, epsilon=0.01)
    wrapper.build(shape)
    axes = tuple(range(x.ndim - 1))
    mean, sigma = x.mean(axes), np.sqrt(x.var(axes) + 0.01)
    start, bias = layer.kernel.numpy(), rng.normal(size=4)
    layer.bias.assign(bias)
    target = rng.normal(size=layer.compute_output_shape(shape))

    # The coordinates of batch norm, with its statistics taken as constants.
    hat = tf.Variable(start * sigma[:, None])
    sums = (start * mean[:, None]).reshape(-1, 4).sum(0)
    hat_bias = tf.Variable(bias + sums)
    with tf.GradientTape() as tape:
        normalized = tf.constant((x - mean) / sigma)
        if x.ndim == 2:
            y = normalized @ hat
        else:
            y = tf.nn.conv2d(normalized, hat, strides=2, padding="VALID")
        loss = tf.reduce_sum((tf.tanh(y + hat_bias) - target) ** 2)
    for variable, slope in zip(
        (hat, hat_bias), tape.gradient(loss, (hat, hat_bias)), strict=True
    ):
        variable.assign_sub(0.125 * slope)
    kernel = hat.numpy() / sigma[:, None]
    expected = hat_bias - (kernel * mean[:, None]).reshape(-1, 4).sum(0)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum((tf.tanh(wrapper(x, training=True)) - target) ** 2)
    weights = wrapper.trainable_weights
    keras.optimizers.SGD(0.125).apply_gradients(
        zip(tape.gradient(loss, weights), weights, strict=True)
    )
    assert_allclose(layer.kernel.numpy(), kernel, rtol=1e-10)
    assert_allclose(layer.bias.numpy(), expected, rtol=1e-10)


def in_either_way():
    """Every pair of a layer and a precision, of a layer and a way, and of these two."""
    for place, kind in enumerate(LAYERS):
        ways = ("eager", "graph") if place % 2 else ("graph", "eager")
        # TensorFlow has no half-precision convolution of channels first for the CPU.
        other = "float32" if kind == "first" else "mixed_float16"
        yield from zip((kind, kind), ("float32", other), ways, strict=True)


@pytest.mark.parametrize("kind, policy, way", [*in_either_way()])
def test_forward_pass_and_input_gradient_are_the_layers_own(kind, policy, way):
    with dtype_policy(policy):
        layer, x = layer_and_input(kind)
        wrapper = nobn.layers.BatchNormalizationPreconditioning(layer)
        assert wrapper(x).dtype == layer(x).dtype

    def all_three(x):
        calls = (
            layer,
            lambda x: wrapper(x, training=False),
            lambda x: wrapper(x, training=True),
        )
        return [value_and_gradients(call, layer, x) for call in calls]

    if way == "graph":
        all_three = tf.function(all_three, autograph=False)
    alone, *both = all_three(x)
    for found in both:
        assert_array_equal(found[0], alone[0])
        assert_array_equal(found[1], alone[1])
    for name, gradient in both[0][2].items():
        assert_array_equal(gradient, alone[2][name], name)


@pytest.mark.parametrize("kind", [k for k in LAYERS if k != "scaled"])
def test_weight_gradients(kind):
    layer, x = layer_and_input(kind)
    wrapper = nobn.layers.BatchNormalizationPreconditioning(layer)
    wrapper.build(x.shape)
    wrapped = value_and_gradients(lambda x: wrapper(x, training=True), layer, x)
    alone = value_and_gradients(layer, layer, x)
    g_w, g_b = np.asarray(alone[2]["kernel"]), np.asarray(alone[2]["bias"])
    seen = np.asarray(x if "input_quantizer" not in LAYERS[kind][2] else np.sign(x))
    last = np.moveaxis(seen, 1, -1) if kind == "first" else seen
    mean = last.reshape(-1, last.shape[-1]).mean(0)
    square = last.reshape(-1, last.shape[-1]).var(0)
    if "input_quantizer" in LAYERS[kind][2]:
        assert_allclose(square, 1 - mean**2, rtol=1e-5)
    groups, (inputs, units) = getattr(layer, "groups", 1), g_w.shape[-2:]
    along, across = np.empty_like(g_w), g_b.copy()
    for unit in range(units):
        start = unit // (units // groups) * inputs
        mu, var = mean[start : start + inputs], square[start : start + inputs]
        var = np.maximum(var, 0.01 * var.max()) + 1e-4
        along[..., unit] = (g_w[..., unit] - mu * g_b[unit]) / var
        across[unit] -= (mu * along[..., unit]).sum()
    # Glorot's kernels are within the straight-through window of ±1.
    assert_allclose(wrapped[2]["kernel"], along, rtol=1e-3, atol=1e-3)
    assert_allclose(wrapped[2]["bias"], across, rtol=1e-3, atol=1e-3)


def test_constant_inputs_stay_finite():
    layer = keras.layers.Dense(2)
    wrapper = nobn.layers.BatchNormalizationPreconditioning(layer)
    wrapper.build((4, 3))
    x = tf.fill((4, 3), 1e3)
    _, _, found = value_and_gradients(lambda x: wrapper(x, training=True), layer, x)
    assert all(np.isfinite(np.asarray(g)).all() for g in found.values())
    assert_array_equal(wrapper.moving_variance, 0)
