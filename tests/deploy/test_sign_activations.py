"""A sign given as `activation=` is treated as one that is a layer of its own."""

import larq as lq
import numpy as np
import pytest
from larq_nobn import deploy
from deploy.nets import binary_conv, images, scrambled
from deploy.sides import beside, compared
from larq_nobn._keras import keras
from larq_nobn.deploy import fake_quantize
from larq_nobn.quantizers import ReSTE, RSign, ScaledStdSign
from larq_nobn.surgery import fold_batch_norm, remove_batch_norm

layers = keras.layers
SHAPE = (4, 4, 8)
SIGNS = [
    lq.quantizers.SteSign,
    RSign,
    ReSTE,
    lambda: lq.quantizers.ste_sign,
    lambda: lq.math.sign,
]
SURGERY = (fold_batch_norm, remove_batch_norm)
SAME = (
    lambda: lambda x: x,
    lambda: layers.Activation("linear"),
    layers.Identity,
    lambda: layers.Rescaling(1.0),
    lambda: layers.Dropout(0.5),
)


def network(conv, sign, *rows, apart=False):
    """A convolution, its sign as activation or as a layer, and layers after."""
    inputs = keras.Input(SHAPE)
    if apart:
        x = layers.Activation(sign, name="sign")(conv(inputs))
    else:
        config = {**conv.get_config(), "activation": sign}
        x = type(conv).from_config(config)(inputs)
    for row in rows:
        x = row(x)
    return scrambled(keras.Model(inputs, x))


def behind(**changes):
    """A binary convolution that takes no sign of its own."""
    return binary_conv(8, input_quantizer=None, name="last", **changes)


@pytest.mark.convert
def test_binary_layers_after(tmp_path):
    networks, plain = [], lq.quantizers.SteSign()
    for sign, same in zip(SIGNS, SAME, strict=True):
        networks.append(network(binary_conv(8), sign(), same(), behind()))
    # Their own sign changes nothing.
    networks.append(network(binary_conv(8), plain, binary_conv(8)))
    dense = lq.layers.QuantDense(4, kernel_quantizer="ste_sign", use_bias=False)
    floats = [
        network(layers.Conv2D(8, 3), plain, behind()),
        network(layers.DepthwiseConv2D(3), plain, behind()),
        network(layers.Dense(8), plain, layers.Flatten(), dense),
    ]
    report, off = compared(beside([*networks, *floats]), tmp_path)
    count = 2 * len(networks) + len(floats)
    assert report.lce_bconv2d == report.binary_layers == count
    assert report.in_float == []
    assert set(off) == {0}


@pytest.mark.convert
def test_scaled_sums_before_the_sign_of_an_output(tmp_path):
    """Sums of ±c that should be 0 are noise in Keras: they explain what differs."""
    conv = binary_conv(8, kernel_quantizer=ScaledStdSign())
    model = network(conv, lq.quantizers.SteSign())
    report, _ = compared(model, tmp_path)
    assert report.lce_bconv2d == report.binary_layers == 1
    assert report.verify["unexplained"] == report.verify["prepared"]["unexplained"] == 0
    assert report.verify["prepared"]["explained"] > 0


@pytest.mark.parametrize("change", [fold_batch_norm, remove_batch_norm, fake_quantize])
def test_what_changes_a_model_sees_a_sign_layer(change):
    """Norms before the sign and after it, and what each of them becomes."""
    data, actual = images(4, SHAPE), []
    for apart in (False, True):
        norm, dense = layers.BatchNormalization(name="norm"), layers.Dense(3)
        rows = behind(), norm, layers.GlobalAveragePooling2D(), dense
        float_conv = layers.Conv2D(8, 3, name="first")
        model = network(float_conv, lq.quantizers.SteSign(), *rows, apart=apart)
        changed = change(model) if change in SURGERY else change(model, data)
        kinds = [type(layer).__name__.lower() for layer in changed.layers]
        kinds = ["sign" if "sign" in k or k == "activation" else k for k in kinds]
        actual.append((kinds, np.asarray(changed(data))))
    assert actual[0][0] == actual[1][0]
    np.testing.assert_array_equal(actual[0][1], actual[1][1])


def test_the_prepared_model_has_the_sign_after_the_layer():
    model = network(binary_conv(8, name="conv"), RSign(name="own"), behind())
    x = images(4, SHAPE)
    np.testing.assert_array_equal(deploy.prepared(model)(x), model(x))
    assert deploy.binary_layers(model) == ["conv", "last"]
