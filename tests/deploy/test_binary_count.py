"""Binary convolutions that LCE leaves in float, or finds where there are none."""

import larq as lq
import numpy as np
import pytest
from larq_nobn import layers
from deploy.nets import SIGNS, OwnConv2D, binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, convert
from larq_nobn.deploy.operations._kinds import Sign

pytestmark = pytest.mark.convert


def refused(model, message, folder, **options):
    with pytest.raises(ConversionError, match=message):
        convert(model, folder / "m.tflite", **options)
    assert not any(folder.iterdir())


def jitter(amount):
    signs = np.sign(np.random.default_rng(0).normal(size=(3, 3, 8, 8)))
    return (1 + amount * signs).astype(np.float32)


def test_kernels_that_are_not_binary_are_told(tmp_path):
    """Of a user's kind, which conversion keeps as they are."""

    @lq.utils.set_precision(1)
    def quantizer(latent):
        return lq.math.sign(latent) * jitter(0.02)

    changes = {"kernel_quantizer": quantizer, "padding": "same", "pad_values": 1.0}
    layer = OwnConv2D(8, 3, name="own", **{**SIGNS, **changes})
    model = chain(binary_conv(8), layer, keras.layers.ReLU(), *head())
    refused(model, "The kernel of layer 'own' is not ±c with one c per", tmp_path)


@pytest.mark.parametrize(
    "factor",
    [
        layers.SkipInit(name="zero"),
        keras.layers.BatchNormalization(gamma_initializer="zeros", name="zero"),
        keras.layers.Rescaling(0.0, name="zero"),
        lambda y: y * np.zeros(8, np.float32),
    ],
    ids=lambda factor: type(factor).__name__,
)
def test_a_layer_whose_output_is_multiplied_by_zero_is_told(factor, tmp_path):
    start = keras.Input((8, 8, 8))
    x = keras.layers.Conv2D(8, 1)(start)
    y = binary_conv(8, name="lost", padding="same", pad_values=1.0)(x)
    model = keras.Model(start, keras.layers.add([x, factor(y)]))
    refused(model, "follows layer 'lost' multiplies its output by 0", tmp_path)


def test_what_stands_between_sign_and_convolution_is_told(tmp_path, monkeypatch):
    right = Sign.emit

    def halved(node, name, x):
        return 0.5 * right(node, name, x)

    monkeypatch.setattr(Sign, "emit", halved)
    model = chain(binary_conv(name="left"), keras.layers.ReLU(), *head())
    message = "LCE found 0 .* has 1: layer 're_lu.*' stayed float. MUL stands between"
    refused(model, message, tmp_path)


def test_kernels_that_are_nearly_binary_are_not_flattened(tmp_path):
    conv = binary_conv(8, name="x", kernel_quantizer=None)
    model = chain(conv, binary_conv(8), stem=False, shape=(8, 8, 8))
    conv.kernel.assign(np.sign(conv.kernel) * jitter(0.002))
    message = "LCE found 2 .* has 1: it binarized what is not .* ±c, in 'x'"
    refused(model, "kernel of layer 'x' is not ±c", tmp_path)
    refused(model, message, tmp_path, allow_float=True)
