"""Known faults of LCE, from end to end: a model converts, or is rejected."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, small
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, convert
from numpy.testing import assert_array_equal

pytestmark = pytest.mark.convert


def converts(model, folder, binary=1):
    report = convert(model, folder / "m.tflite")
    assert report.lce_bconv2d == report.binary_layers == binary
    return report


def refused(model, message, folder):
    with pytest.raises(ConversionError, match=message):
        convert(model, folder / "m.tflite")
    assert not any(folder.iterdir())


def test_an_open_quantized_scope_changes_nothing(tmp_path):
    model = small()
    with lq.context.quantized_scope(True):
        report = converts(model, tmp_path)
        assert lq.context.should_quantize()
    latent = model.get_layer("only").kernel.latent_variable.numpy()
    assert len(np.unique(np.abs(latent))) > 1
    assert converts(model, tmp_path).verify == report.verify


def test_a_scope_that_a_failing_layer_left_open_is_closed_again(tmp_path):
    model = chain(binary_conv(name="x", input_quantizer=plain_sign), *head())
    refused(model, "quantizer of layer 'x' gives 0", tmp_path)
    assert not lq.context.should_quantize()


def test_lambdas_convert(tmp_path):
    rows = [keras.layers.Lambda(lambda x: tf.nn.relu(x) + 0.25, name="own"), *head()]
    converts(chain(binary_conv(), *rows), tmp_path)


def test_a_sign_inside_a_lambda_is_found(tmp_path):
    own = keras.layers.Lambda(lambda x: lq.math.sign(x), name="own")
    conv = binary_conv(name="x", input_quantizer=None)
    converts(chain(own, conv, binary_conv(), *head()), tmp_path, binary=2)


@pytest.mark.parametrize("kernel", ["ste_sign", "magnitude_aware_sign"])
def test_kernels_of_zeros_are_binary(kernel, tmp_path):
    conv = binary_conv(kernel_quantizer=kernel)
    model = chain(conv, *head())
    values = conv.kernel.latent_variable.numpy()
    values[..., :8] = 0
    conv.kernel.assign(values)
    converts(model, tmp_path)


def test_gains_of_zero_are_binary(tmp_path):
    conv = binary_conv(kernel_quantizer=nobn.quantizers.ScaledStdSign(scale=0.2))
    model = chain(conv, *head())
    conv.kernel_quantizer.gain.assign(np.zeros(32))
    converts(model, tmp_path)


@pytest.mark.parametrize("pad_values", [0.0, 1.0])
@pytest.mark.parametrize("size", [2, 3])
def test_dilated_convolutions_convert(pad_values, size, tmp_path):
    conv = binary_conv(size=size, dilation_rate=2, pad_values=pad_values)
    converts(chain(conv, stem=False), tmp_path)


@pytest.mark.parametrize(
    "pad_values, size, strides",
    [(0.0, 2, 1), (1.0, 4, 1), (0.0, 4, 2), (1.0, 3, 2), (0.0, 3, 2), (1.0, (1, 3), 1)],
)
def test_padding_of_any_symmetry_converts(pad_values, size, strides, tmp_path):
    conv = binary_conv(size=size, strides=strides, pad_values=pad_values)
    converts(chain(conv, stem=False), tmp_path)


@lq.utils.set_precision(1)
def halves(x):
    return tf.where(tf.abs(x) > 0.1, lq.math.sign(x), 0.5 * lq.math.sign(x))


@lq.utils.set_precision(1)
def plain_sign(x):
    return tf.sign(x)


def test_kernels_that_only_say_they_are_binary(tmp_path):
    model = chain(binary_conv(name="x", kernel_quantizer=halves), *head())
    refused(model, "kernel of layer 'x' is not ±c.*'ste_sign'", tmp_path)


def test_input_quantizers_that_only_say_they_are_binary(tmp_path):
    model = chain(binary_conv(name="x", input_quantizer=plain_sign), *head())
    refused(model, "quantizer of layer 'x' gives 0, but LCE.*larq.math.sign", tmp_path)


def test_thresholds_as_quantizers_convert(tmp_path):
    @lq.utils.set_precision(1)
    def threshold(x):
        return tf.where(x >= 0.25, 1.0, -1.0)

    converts(chain(binary_conv(input_quantizer=threshold), *head()), tmp_path)


def test_sums_of_scaled_kernels_that_meet_a_sign_are_exact(tmp_path):
    rows = [binary_conv(kernel_quantizer="magnitude_aware_sign") for _ in range(3)]
    report = converts(chain(*rows, *head()), tmp_path, 3)
    assert report.verify["unexplained"] == 0
    assert report.verify["exact_share"] > 0.8


def test_the_weights_of_a_rejected_model_stay(tmp_path):
    model = chain(binary_conv(name="x", input_quantizer=plain_sign), *head())
    before = [weight.numpy() for weight in model.weights]
    refused(model, "quantizer of layer 'x' gives 0", tmp_path)
    for old, new in zip(before, model.weights, strict=True):
        assert_array_equal(old, new.numpy())
