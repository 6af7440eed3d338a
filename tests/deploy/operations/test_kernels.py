"""Kernels as a file has them, and models of half precision."""

from dataclasses import replace

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from deploy.operations.programs import (
    SHAPE,
    kinds_of,
    lowered,
    nodes_of,
    program_of,
    scaled_conv,
)
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.deploy import prepared
from larq_nobn.deploy._opening import in_float32, other_precision
from larq_nobn.deploy.operations import outputs_of
from larq_nobn.deploy.operations._kinds import Kernel, Sign
from larq_nobn.deploy.operations._program import Program
from larq_nobn.graph._signs import kernel_value
from numpy.testing import assert_allclose, assert_array_equal


def test_layers_that_do_nothing_are_left_out():
    idle = [
        keras.layers.Dropout(0.5),
        keras.layers.GaussianNoise(1.0),
        keras.layers.ActivityRegularization(l2=1.0),
        keras.layers.RandomFlip(),
        keras.layers.Activation("linear"),
    ]
    program = program_of(chain(*idle, binary_conv(), stem=False))
    assert kinds_of(program) == ["Sign", "Pad", "Kernel"]


def test_scaled_kernels_become_signs_with_the_scale_after():
    conv = binary_conv(kernel_quantizer=nobn.quantizers.ScaledStdSign(scale=0.2))
    model = chain(conv, keras.layers.Activation("tanh"))
    gain = np.linspace(-1, 1, 32).astype(np.float32)
    gain[:3] = 0, 1e-7, -1e-20
    conv.kernel_quantizer.gain.assign(gain)
    _, node = nodes_of(program_of(model), Kernel)
    assert_array_equal(np.abs(node.weights), 1)
    assert np.all(node.scale >= 0)
    value = kernel_value(conv.kernel)
    assert_allclose(node.weights * node.scale, value, rtol=1e-6)


@pytest.mark.parametrize("pad", [1.0, 0.0, -1.0, 0.5])
def test_sums_before_the_scale_are_whole_numbers(pad):
    """Halves of them, where halves are padded; before any rule, too."""
    options = {"use_bias": False, "pad_values": pad}
    model = chain(scaled_conv(**options), stem=False, shape=SHAPE)
    x = images(1, SHAPE)
    for program in (lowered(model).lowered.program, program_of(model, x)):
        (node,) = nodes_of(program, Kernel)
        ones = np.ones_like(node.scale)
        nodes = [replace(node, scale=ones), *program.nodes]
        part = Program(program.inputs, nodes[1:] + nodes[:1], [node.y])
        (sums,) = tf.function(lambda x, part=part: outputs_of(part, [x]))(x)
        assert_array_equal(2 * sums, np.round(2 * sums))


def test_the_scale_of_a_sign_goes_into_its_shift():
    rsign = nobn.quantizers.RSign(scale=4.0)
    program = program_of(chain(binary_conv(input_quantizer=rsign), stem=False))
    (sign,) = nodes_of(program, Sign)
    assert_allclose(sign.shift, rsign.shift.numpy() / 4, rtol=1e-6)


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
    """A quantizer would be operations on constants."""
    program = program_of(chain(OTHERS[name](), stem=False))
    kernels = nodes_of(program, Kernel)
    assert len(kernels) == (2 if name == "separable" else 1)
    assert not any(kernel.binary for kernel in kernels)
    assert {*kinds_of(program)} <= {"Sign", "Kernel"}


class MyConv(lq.layers.QuantConv2D):
    """What a user may derive; nobody knows its call."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def test_derived_layers_keep_their_own_call():
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    program = program_of(chain(MyConv(32, 3, use_bias=False, **options), stem=False))
    (node,) = nodes_of(program, Kernel)
    assert_array_equal(np.abs(node.weights), 1)
    assert_array_equal(node.scale, 2)


def test_half_precision_is_rebuilt_in_float32():
    policy = "mixed_bfloat16"
    with dtype_policy(policy):
        conv = binary_conv(
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        )
        model = chain(conv, nobn.layers.RPReLU(), *head())
        new, same = prepared(model), in_float32(model)
        assert keras.mixed_precision.global_policy().name == policy
    assert other_precision(model) == policy
    for made in (new, same):
        assert other_precision(made) == ""
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
    with dtype_policy(f"mixed_{dtype}"):
        inputs = keras.Input((6, 6, 8))
        constant = tf.constant(np.arange(8) / 8 - 0.25, dtype)
        constant = constant.numpy() if array else constant
        x = keras.layers.LeakyReLU(0.5)(inputs)
        ends = [binary_conv(4)(make(x, constant)) for make in CONSTANTS.values()]
        model = keras.Model(inputs, ends)
    same = in_float32(model)
    assert {layer.compute_dtype for layer in same.layers} == {"float32"}
    x = tf.cast(images(4, (6, 6, 8)), dtype)
    for kind, actual, wanted in zip(
        CONSTANTS, same(tf.cast(x, "float32")), model(x), strict=True
    ):
        assert_array_equal(actual, tf.cast(wanted, "float32"), err_msg=kind)
