"""Each rule of preparation: before and after, and that the function stays."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images, scrambled, three_convs
from deploy.prepare.factor_nets import as_written
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError
from larq_nobn.deploy.prepare._prepare import (
    half_precision,
    in_float32,
    prepare,
)
from larq_nobn.graph import kernel_value, split_kernel
from larq_nobn.layers._inference import (
    BinaryConvolution,
    PlainRPReLU,
    ShiftedSign,
)
from numpy.testing import assert_allclose, assert_array_equal


def equal(model, tolerance=2e-6):
    """Prepares a model and returns the result, once both agree."""
    prepared = prepare(model)
    x = images()
    expected = model(x, training=False).numpy()
    scale = np.abs(expected).max()
    assert_allclose(prepared(x).numpy(), expected, rtol=0, atol=tolerance * scale)
    return prepared


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dropout(0.5, name="x"),
        keras.layers.SpatialDropout2D(0.5, name="x"),
        keras.layers.AlphaDropout(0.5, name="x"),
        keras.layers.GaussianDropout(0.5, name="x"),
        keras.layers.GaussianNoise(1.0, name="x"),
        keras.layers.ActivityRegularization(l2=1.0, name="x"),
        keras.layers.RandomFlip(name="x"),
        keras.layers.Activation("linear", name="x"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_do_nothing_are_left_out(layer):
    new = equal(chain(layer, binary_conv(), stem=False))
    assert "x" not in [layer.name for layer in new.layers]


def test_scaled_kernels_become_signs_with_the_scale_after():
    conv = binary_conv(
        name="conv", kernel_quantizer=nobn.quantizers.ScaledStdSign(scale=0.2)
    )
    model = chain(conv, *head())
    gain = np.linspace(-1, 1, 32).astype(np.float32)
    gain[:3] = 0, 1e-7, -1e-20
    conv.kernel_quantizer.gain.assign(gain)
    new = equal(model).get_layer("conv")
    assert type(new) is BinaryConvolution
    assert_array_equal(np.abs(new.kernel.numpy()), 1)
    value = kernel_value(conv.kernel)
    assert new.scale.shape == (32,)
    assert np.all(new.scale.numpy() >= 0)
    assert_allclose(new.kernel.numpy() * new.scale, value, rtol=1e-6)


def test_sums_of_prepared_kernels_are_whole_numbers():
    conv = binary_conv(kernel_quantizer="magnitude_aware_sign", name="conv")
    model = prepare(chain(conv, scramble=True))
    conv = model.get_layer("conv")
    conv.scale = None
    sums = conv(images(shape=(8, 8, 32))).numpy()
    assert_array_equal(sums, np.round(sums))


def test_an_unscaled_kernel_needs_no_factor():
    assert equal(chain(binary_conv(name="conv"))).get_layer("conv").scale is None


@pytest.mark.parametrize("kernel", ["ste_sign", "magnitude_aware_sign"])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_bias_and_activation_stay_after_the_scale(kernel, use_bias, activation):
    conv = binary_conv(
        kernel_quantizer=kernel, use_bias=use_bias, activation=activation
    )
    equal(chain(conv, stem=False))


@pytest.mark.parametrize(
    "changes",
    [
        {"strides": 2},
        {"dilation_rate": 2},
        {"padding": "valid"},
        {"pad_values": 0.0},
        {"size": (1, 3)},
    ],
)
def test_geometry_is_kept(changes):
    equal(chain(binary_conv(**changes), stem=False))


def test_the_scale_of_a_sign_goes_into_its_shift():
    conv = binary_conv(name="conv", input_quantizer=nobn.quantizers.RSign(scale=4.0))
    model = chain(conv, *head())
    equal(model)
    sign = as_written(model).get_layer("conv").input_quantizer
    assert type(sign) is ShiftedSign
    assert_array_equal(sign.shift, conv.input_quantizer.shift.numpy() / 4)


def test_signs_as_layers_are_made_plain_too():
    sign = nobn.quantizers.RSign(scale=0.5, name="sign")
    model = equal(chain(sign, binary_conv(input_quantizer=None), *head()))
    assert type(model.get_layer("sign")) is ShiftedSign


def test_rprelu_keeps_its_function():
    model = equal(chain(binary_conv(), nobn.layers.RPReLU(name="act"), *head()))
    assert type(model.get_layer("act")) is PlainRPReLU


@pytest.mark.parametrize(
    "layer",
    [
        lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_sign", name="x"),
        lq.layers.QuantConv2D(
            8, 3, kernel_quantizer=nobn.quantizers.ScaledStandardization(), name="x"
        ),
        lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_tern", name="x"),
        lq.layers.QuantConv2D(8, 3, input_quantizer="rsign", name="x"),
        lq.layers.QuantDense(
            8, input_quantizer="ste_sign", kernel_quantizer="dorefa_quantizer", name="x"
        ),
        lq.layers.QuantDepthwiseConv2D(3, depthwise_quantizer="ste_sign", name="x"),
        lq.layers.QuantSeparableConv2D(
            8,
            3,
            depthwise_quantizer="ste_sign",
            pointwise_quantizer="magnitude_aware_sign",
            name="x",
        ),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_quantized_kernels_become_plain_numbers(layer):
    new = equal(chain(layer, stem=False)).get_layer("x")
    assert type(new) is type(layer)
    assert getattr(new, "kernel_quantizer", None) is None
    assert getattr(new, "depthwise_quantizer", None) is None
    assert getattr(new, "pointwise_quantizer", None) is None


class MyConv(lq.layers.QuantConv2D):
    """What a user may derive; its call is not known to preparation."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def test_derived_layers_keep_their_own_call():
    layer = MyConv(
        32, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name="mine"
    )
    new = equal(chain(layer)).get_layer("mine")
    assert type(new) is MyConv
    assert_array_equal(np.abs(new.kernel.numpy()), 1)


def test_a_shared_layer_stays_shared():
    conv = binary_conv(name="shared")
    prepared = equal(chain(conv, conv, *head()))
    assert len(prepared.get_layer("shared").inbound_nodes) == 2


def test_residual_graphs_are_kept():
    inputs = keras.Input((8, 8, 32))
    x = binary_conv(name="conv")(inputs)
    y = keras.layers.Add(name="add")([x, 0.5 * inputs])
    model = scrambled(keras.Model(inputs, y))
    x = images(shape=(8, 8, 32))
    assert_allclose(prepare(model)(x), model(x), rtol=1e-6, atol=1e-5)


def test_kernels_that_lce_would_flatten_are_rejected():
    def wobbly(kernel):
        return lq.math.sign(kernel) * (1 + 0.003 * lq.math.sign(kernel[:1, :1]))

    wobbly.precision = 1
    model = chain(binary_conv(kernel_quantizer=wobbly, name="wobbly"))
    with pytest.raises(ConversionError, match="kernel of layer 'wobbly' is not ±c"):
        nobn.deploy.prepared(model)


def test_layers_without_a_configuration_stay():
    class Mine(keras.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def get_config(self):
            return {"name": self.name}

    model = chain(Mine(2, name="mine"), binary_conv())
    x = images()
    assert_allclose(prepare(model)(x), model(x), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"]
)
def test_half_precision_is_rebuilt_in_float32(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        conv = binary_conv(
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        )
        model = chain(conv, nobn.layers.RPReLU(), *head())
        prepared, same = prepare(model), in_float32(model)
        assert keras.mixed_precision.global_policy().name == policy
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert half_precision(model) == policy
    for new in (prepared, same):
        assert half_precision(new) is None
        assert {layer.compute_dtype for layer in new.layers} == {"float32"}
    x = images()
    assert_allclose(prepared(x), same(x), rtol=0, atol=1e-5)
    # bfloat16 keeps 8 bits, and a few signs near 0 fall the other way.
    assert_allclose(same(x), model(x).numpy().astype("f4"), rtol=0, atol=0.2)


CONSTANTS = {
    "a factor": lambda x, c: x * c,
    "the first": lambda x, c: c - x,
    "by name": lambda x, c: tf.multiply(x=c, y=x),
    "a bound": lambda x, c: tf.maximum(x, c),
    "in a list": lambda x, c: tf.add_n([x, c + tf.zeros((4, 6, 6, 8), c.dtype)]),
    "a choice": lambda x, c: tf.where(x > 0, x, c),
}


@pytest.mark.parametrize("kind", CONSTANTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("array", [False, True])
def test_constants_of_half_precision_are_rebuilt_in_float32(kind, dtype, array):
    """As in x * tf.cast(c, x.dtype); half precision represents them exactly."""
    keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    try:
        inputs = keras.Input((6, 6, 8))
        constant = tf.constant(np.arange(8) / 8 - 0.25, dtype)
        x = keras.layers.LeakyReLU(0.5)(inputs)
        x = CONSTANTS[kind](x, constant.numpy() if array else constant)
        model = keras.Model(inputs, binary_conv(4)(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    same = in_float32(model)
    assert {layer.compute_dtype for layer in same.layers} == {"float32"}
    x = tf.cast(images(4, (6, 6, 8)), dtype)
    assert_array_equal(same(tf.cast(x, "float32")), tf.cast(model(x), "float32"))


def test_an_open_scope_of_larq_changes_nothing():
    model = chain(binary_conv(name="conv"))
    latent = model.get_layer("conv").kernel.numpy()
    with lq.context.quantized_scope(True):
        same = in_float32(model)
    assert_array_equal(same.get_layer("conv").kernel.numpy(), latent)


def test_the_given_model_is_not_touched():
    model = three_convs()
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    model.fit(images(), np.zeros((8, 5)), verbose=0)

    def state():
        return [
            *(w.numpy() for w in model.weights),
            *(v.numpy() for v in model.optimizer.variables),
            *(m.result().numpy() for m in model.metrics),
        ]

    before, names = state(), [w.name for w in model.weights]
    nodes = [len(layer.inbound_nodes) for layer in model.layers]
    prepare(model)
    assert names == [w.name for w in model.weights]
    assert nodes == [len(layer.inbound_nodes) for layer in model.layers]
    for old, new in zip(before, state(), strict=True):
        assert_array_equal(old, new)


def test_kernels_split_into_signs_and_scales():
    kernel = np.array([[2.0, -0.0, 1.0], [-2.0, 0.0, 1.0]]).reshape(1, 2, 1, 3)
    signs, scale = split_kernel(kernel)
    assert_array_equal(signs.reshape(2, 3), [[1, 1, 1], [-1, 1, 1]])
    assert_array_equal(scale, [2, 0, 1])
    kernel[0, 0, 0, 2] = 1.001
    assert split_kernel(kernel) is None
