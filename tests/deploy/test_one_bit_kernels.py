"""Kernels of precision 1 are binary where their values are, whatever quantizes them."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import deploy
from deploy.nets import scrambled
from deploy.sides import beside, compared
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, convert

pytestmark = pytest.mark.convert


class TensorFlowSign(lq.quantizers.Quantizer):
    """A user's quantizer of one bit, which makes 0 of 0."""

    precision = 1

    def call(self, inputs):
        return tf.sign(inputs)


@lq.utils.set_precision(1)
def scaled(latent):
    """A function of a user's, with a scale for each output channel."""
    return tf.sign(latent) * tf.reduce_mean(abs(latent), range(len(latent.shape) - 1))


@pytest.fixture(autouse=True)
def known():
    names = {"TensorFlowSign": TensorFlowSign, "scaled": scaled}
    with keras.utils.custom_object_scope(names):
        yield


QUANTIZERS = {
    "NoOp": lambda: lq.quantizers.NoOp(precision=1),
    "a class": TensorFlowSign,
    "a function": lambda: scaled,
}
KINDS = {
    "QuantConv2D": ((4, 4, 8), (8, 3), {}),
    "in groups": ((4, 4, 8), (8, 3), {"groups": 2}),
    "QuantConv1D": ((5, 8), (8, 3), {}),
    "QuantDense": ((20,), (8,), {}),
}


def network(kind, quantizer, zeros=0):
    """One layer of a kind after a sign, its kernel of ±0.5 but for some zeros."""
    shape, arguments, options = KINDS[kind]
    name = kind if kind.startswith("Quant") else "QuantConv2D"
    inputs = keras.Input(shape)
    layer = getattr(lq.layers, name)(
        *arguments,
        input_quantizer="ste_sign",
        kernel_quantizer=QUANTIZERS[quantizer](),
        kernel_constraint="weight_clip",
        name="layer",
        **options,
    )
    model = scrambled(keras.Model(inputs, layer(inputs)))
    kernel = layer.kernel.latent_variable
    values = np.where(kernel.numpy() >= 0, 0.5, -0.5).astype("float32")
    values.reshape(-1)[:zeros] = 0
    kernel.assign(values)
    return model


def test_two_values_are_binary_in_layers_of_any_kind(tmp_path):
    pairs = [*zip(KINDS, 2 * [*QUANTIZERS], strict=False), ("QuantDense", "a class")]
    model = beside([network(*pair) for pair in pairs])
    report, off = compared(model, tmp_path)
    count = len(pairs) + 1  # one of the kinds is in two groups
    assert report.lce_bconv2d == report.binary_layers == count
    assert report.in_float == []
    assert max(off) < 1e-5
    assert len(deploy.binary_layers(model)) == count


def test_a_zero_is_named_or_listed(tmp_path):
    pairs = zip(KINDS, 2 * ["NoOp", "a class"], strict=True)
    models = [network(*pair, zeros=2) for pair in pairs]
    model = beside([*models, network("QuantConv2D", "NoOp")])
    one = (
        r"kernel of layer '.*layer.*' is not ±c with one c per output channel "
        r"\(zero weights: 2 of [0-9,]+\).*'ste_sign'"
    )
    with pytest.raises(
        ConversionError, match=f"{len(KINDS)} layers of few bits.*{one}"
    ):
        convert(model, tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())
    report, off = compared(model, tmp_path, allow_float=True)
    assert report.lce_bconv2d == report.binary_layers == 1
    assert len(report.in_float) == len(KINDS)
    assert all("zero weights: 2" in row["finding"] for row in report.in_float)
    assert max(off) < 1e-5


@pytest.mark.parametrize("runtime", ["lce", "litert"])
def test_a_channel_of_zeros_alone_leaves_a_kernel_of_0_and_1_binary(runtime, tmp_path):
    arguments = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_heaviside"}
    inputs = keras.Input((4, 4, 6))
    layer = lq.layers.QuantConv2D(8, 1, **arguments)
    model = scrambled(keras.Model(inputs, layer(inputs)))
    kernel = layer.kernel.latent_variable
    kernel.assign(kernel - [1e3, *7 * [0.0]])
    report, off = compared(model, tmp_path, runtime=runtime)
    assert report.binary_layers == 1
    assert max(off) < 1e-5
