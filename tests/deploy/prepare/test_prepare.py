"""Each rule of preparation: before and after, and that the function stays."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from deploy.prepare.preparing import as_written, names, prepared
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError
from larq_nobn.deploy.prepare._prepare import (
    half_precision,
    in_float32,
    prepare,
)
from larq_nobn.graph._signs import kernel_value
from larq_nobn.layers._inference import (
    BinaryConvolution,
    ShiftedSign,
)
from numpy.testing import assert_allclose, assert_array_equal


def test_layers_that_do_nothing_are_left_out():
    idle = [
        keras.layers.Dropout(0.5),
        keras.layers.GaussianNoise(1.0),
        keras.layers.ActivityRegularization(l2=1.0),
        keras.layers.RandomFlip(),
        keras.layers.Activation("linear"),
    ]
    model = chain(*idle, binary_conv(name="conv"), stem=False)
    assert names(prepared(model))[1:] == ["conv"]


def test_scaled_kernels_become_signs_with_the_scale_after():
    conv = binary_conv(
        name="conv", kernel_quantizer=nobn.quantizers.ScaledStdSign(scale=0.2)
    )
    model = chain(conv, *head())
    gain = np.linspace(-1, 1, 32).astype(np.float32)
    gain[:3] = 0, 1e-7, -1e-20
    conv.kernel_quantizer.gain.assign(gain)
    new = prepared(model).get_layer("conv")
    assert type(new) is BinaryConvolution
    assert_array_equal(np.abs(new.kernel.numpy()), 1)
    value = kernel_value(conv.kernel)
    assert new.scale.shape == (32,)
    assert np.all(new.scale.numpy() >= 0)
    assert_allclose(new.kernel.numpy() * new.scale, value, rtol=1e-6)


AWARE = {"kernel_quantizer": "magnitude_aware_sign"}


def test_sums_of_prepared_kernels_are_whole_numbers():
    model = prepare(chain(binary_conv(name="conv", **AWARE)))
    conv = model.get_layer("conv")
    conv.scale = None
    sums = conv(images(shape=(8, 8, 32))).numpy()
    assert_array_equal(sums, np.round(sums))
    plain = prepared(chain(binary_conv(name="conv")))
    assert plain.get_layer("conv").scale is None


def test_the_scale_of_a_sign_goes_into_its_shift():
    conv = binary_conv(name="conv", input_quantizer=nobn.quantizers.RSign(scale=4.0))
    model = chain(conv, *head())
    prepared(model)
    sign = as_written(model).get_layer("conv").input_quantizer
    assert type(sign) is ShiftedSign
    assert_array_equal(sign.shift, conv.input_quantizer.shift.numpy() / 4)


REAL = {"input_quantizer": "ste_sign"}
OTHERS = {
    "ternary": lambda: lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_tern", **REAL),
    "real kernel": lambda: lq.layers.QuantConv2D(8, 3, input_quantizer="rsign"),
    "depthwise": lambda: lq.layers.QuantDepthwiseConv2D(
        3, depthwise_quantizer="ste_sign"
    ),
    "separable": lambda: lq.layers.QuantSeparableConv2D(
        8, 3, depthwise_quantizer="ste_sign", pointwise_quantizer="magnitude_aware_sign"
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_quantized_kernels_become_plain_numbers(name):
    layer = OTHERS[name]()
    new = prepared(chain(layer, stem=False)).get_layer(layer.name)
    assert type(new) is type(layer)
    for kind in ("kernel", "depthwise", "pointwise"):
        assert getattr(new, f"{kind}_quantizer", None) is None


class MyConv(lq.layers.QuantConv2D):
    """What a user may derive; its call is not known to preparation."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def test_derived_layers_keep_their_own_call():
    layer = MyConv(
        32, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name="mine"
    )
    new = prepared(chain(layer)).get_layer("mine")
    assert type(new) is MyConv
    assert_array_equal(np.abs(new.kernel.numpy()), 1)


def test_a_shared_layer_stays_shared():
    conv = binary_conv(name="shared")
    new = prepared(chain(conv, conv, *head()))
    assert len(new.get_layer("shared").inbound_nodes) == 2


def test_kernels_that_lce_would_flatten_are_rejected():
    def wobbly(kernel):
        return lq.math.sign(kernel) * (1 + 0.003 * lq.math.sign(kernel[:1, :1]))

    wobbly.precision = 1
    model = chain(binary_conv(kernel_quantizer=wobbly, name="wobbly"))
    with pytest.raises(ConversionError, match="kernel of layer 'wobbly' is not ±c"):
        nobn.deploy.prepared(model)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_half_precision_is_rebuilt_in_float32(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        conv = binary_conv(
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        )
        model = chain(conv, nobn.layers.RPReLU(), *head())
        new, same = prepare(model), in_float32(model)
        assert keras.mixed_precision.global_policy().name == policy
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert half_precision(model) == policy
    for made in (new, same):
        assert half_precision(made) is None
        assert {layer.compute_dtype for layer in made.layers} == {"float32"}
    x = images()
    assert_allclose(new(x), same(x), rtol=0, atol=1e-5)
    # bfloat16 keeps 8 bits, and a few signs near 0 fall the other way.
    assert_allclose(same(x), model(x).numpy().astype("f4"), rtol=0, atol=0.2)


CONSTANTS = {
    "a factor": lambda x, c: x * c,
    "in a list": lambda x, c: tf.add_n([x, c + tf.zeros((4, 6, 6, 8), c.dtype)]),
    "a choice": lambda x, c: tf.where(x > 0, x, c),
}


@pytest.mark.parametrize("dtype, array", [("float16", False), ("bfloat16", True)])
def test_constants_of_half_precision_are_rebuilt_in_float32(dtype, array):
    """As in x * tf.cast(c, x.dtype); half precision represents them exactly."""
    keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    try:
        inputs = keras.Input((6, 6, 8))
        constant = tf.constant(np.arange(8) / 8 - 0.25, dtype)
        constant = constant.numpy() if array else constant
        x = keras.layers.LeakyReLU(0.5)(inputs)
        ends = [binary_conv(4)(make(x, constant)) for make in CONSTANTS.values()]
        model = keras.Model(inputs, ends)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    same = in_float32(model)
    assert {layer.compute_dtype for layer in same.layers} == {"float32"}
    x = tf.cast(images(4, (6, 6, 8)), dtype)
    for kind, found, wanted in zip(
        CONSTANTS, same(tf.cast(x, "float32")), model(x), strict=True
    ):
        assert_array_equal(found, tf.cast(wanted, "float32"), err_msg=kind)
