"""Layers without a binary kernel: rejected all at once, or converted in float."""

import json
import re

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import (
    DEPTHWISE,
    SIGNS,
    OwnDense,
    binary_conv,
    chain,
    head,
    images,
    scrambled,
)
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.deploy import (
    ConversionError,
    Runner,
    audit,
    convert,
    diff,
    fake_quantize,
)

pytestmark = pytest.mark.convert
layers = keras.layers
SHOWN = "binary in the model, float in the file"


def depthwise(name="x", **options):
    return lq.layers.QuantDepthwiseConv2D(3, name=name, **{**DEPTHWISE, **options})


def conv(*before, **changes):
    return lambda name: [*before, binary_conv(8, name=name, **changes)]


def separable(name):
    options = {"pointwise_quantizer": "ste_sign", "strides": 2, **DEPTHWISE}
    return [lq.layers.QuantSeparableConv2D(8, 3, name=name, **options)]


# Weights, and how often each is multiplied: on maps of 8x8 with 8 channels, by hand.
KINDS = {
    "depthwise": (lambda name: [depthwise(name)], 9 * 8, 36),
    "separable": (separable, 9 * 8 + 8 * 8, 9),
    "ternary": (conv(kernel_quantizer="ste_tern"), 9 * 8 * 8, 64),
    "pooled_signs": (
        conv(lq.quantizers.SteSign(), layers.MaxPooling2D(), input_quantizer=None),
        9 * 8 * 8,
        16,
    ),
}


def every_kind():
    """A model with an output for each, after one binary convolution."""
    inputs = keras.Input((8, 8, 8))
    x = layers.Activation("tanh")(binary_conv(8, name="first")(inputs))
    ends = []
    for name, (make, _, _) in KINDS.items():
        end = x
        for layer in make(name):
            end = layer(end)
        ends.append(end)
    return scrambled(keras.Model(inputs, ends, name="every"))


def test_in_float_they_compute_the_same(tmp_path):
    model = every_kind()
    costs = {n: (w * uses, 4 * w) for n, (_, w, uses) in KINDS.items()}
    path, data = tmp_path / "m.tflite", images(8, (8, 8, 8))
    with pytest.raises(ConversionError, match=f"has {len(KINDS)} layers of few bits"):
        convert(model, path)
    assert not any(tmp_path.iterdir())
    report = convert(model, path, data=data, allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers) == (1, 1)
    actual = {row["layer"]: (row["macs"], row["bytes"]) for row in report.in_float}
    assert actual == costs
    kinds = {row["layer"]: row["kind"] for row in report.in_float}
    assert kinds == {n: type(model.get_layer(n)).__name__ for n in KINDS}
    assert report.verify["examples"] == 8
    pairs = zip(Runner(path.read_bytes())(data), model(data), strict=True)
    for name, (actual, expected) in zip(KINDS, pairs, strict=True):
        size = np.abs(expected).max()
        close = np.isclose(actual, expected, rtol=1e-3, atol=1e-3 * size)
        # But for signs within rounding of 0.
        assert close.reshape(8, -1).all(axis=1).sum() >= 7, name


@pytest.mark.parametrize(
    ("file", "runtime"), [("m.tflite", "LCE"), ("m.c", "a C file")]
)
def test_all_are_rejected_in_one_message_and_nothing_is_written(
    file, runtime, tmp_path
):
    rows = [
        depthwise("LCE", padding="same"),
        binary_conv(8, name="b", kernel_quantizer="ste_tern"),
        binary_conv(name="fine"),
        OwnDense(8, name="fine_too", **SIGNS),
    ]
    message = (
        "Model 'chain' has 2 layers of few bits without a binary kernel in "
        f"{runtime}. Layer 'LCE' is a binary QuantDepthwiseConv2D, for which {runtime} "
        "has no binary kernel (18,432 MACs and 1,152 bytes in float). Use a "
        "QuantConv2D, or leave its input or its kernel unquantized. Layer 'b' has "
        f"1-bit inputs and a 2-bit kernel, for which {runtime} has no kernel (147,456 "
        "MACs and 9,216 bytes in float). Use signs for both, such as 'ste_sign', or "
        "leave one of them unquantized. Or pass allow_float=True (--allow-float), "
        "which converts what is named here in float."
    )
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        convert(chain(*rows), tmp_path / file)
    assert not any(tmp_path.iterdir())


def test_the_report_and_the_audit_list_them(tmp_path):
    dense = lq.layers.QuantDense(4, name="dense", **SIGNS)
    rows = binary_conv(8, name="first"), depthwise(), layers.ReLU(), dense
    model, path = chain(*rows, *head()), tmp_path / "m.tflite"
    report = convert(model, path, allow_float=True, verify=False)
    (row,) = json.loads(report.to_json())["in_float"]
    assert row == {
        "layer": "x",
        "kind": "QuantDepthwiseConv2D",
        "finding": "Layer 'x' is a binary QuantDepthwiseConv2D, for which LCE has no "
        "binary kernel",
        "remedy": "Use a QuantConv2D, or leave its input or its kernel unquantized.",
        "macs": 36 * 72,
        "bytes": 288,
    }
    assert SHOWN in str(report)
    assert "x (QuantDepthwiseConv2D): 2,592 MACs, 288 bytes" in str(report)
    actual = audit(path)
    assert [(r["kind"], r["macs"], r["bytes"]) for r in actual.in_float] == [
        ("DEPTHWISE_CONV_2D", 36 * 72, 288)
    ]
    assert SHOWN in str(actual)
    assert diff(path, path)["numbers"]["in_float"]["path"] == 1
    assert "(DEPTHWISE_CONV_2D): 2,592 MACs, 288 bytes" in str(actual)


def test_a_model_without_binary_layers_converts_on_request(tmp_path):
    model, path, data = chain(layers.ReLU(), *head()), tmp_path / "m.tflite", images(2)
    with pytest.raises(ConversionError, match="no binary .*--allow-float. conv"):
        convert(model, path)
    assert not any(tmp_path.iterdir())
    report = convert(model, path, data=data, allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers, report.in_float) == (0, 0, [])
    assert re.search("binary convolutions +│ none ", str(report))
    assert audit(path).in_float == []
    assert SHOWN not in str(report) + str(audit(path))
    np.testing.assert_allclose(
        Runner(path.read_bytes())(data), model(data), rtol=1e-4, atol=1e-5
    )


def test_beside_int8_they_stay_float(tmp_path):
    model = chain(binary_conv(8), layers.ReLU(), depthwise(), *head())
    ranged, data = fake_quantize(model, images(4), verify=False), images(4)
    path = tmp_path / "m.tflite"
    report = convert(ranged, path, int8=True, allow_float=True, data=data)
    assert (report.lce_bconv2d, [row["layer"] for row in report.in_float]) == (1, ["x"])
    actual, expected = Runner(path.read_bytes())(data), ranged(data)
    np.testing.assert_allclose(actual, expected, atol=0.05 * np.abs(expected).max())


class Around(layers.Layer):
    """A user's layer that gives the one inside a name of Keras' choice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = binary_conv(4)

    def call(self, inputs):
        return self.inner(inputs)


def test_layers_inside_others_have_other_names_in_float32(tmp_path):
    with dtype_policy("mixed_float16"):
        model = chain(binary_conv(8), Around(), *head())
    report = convert(model, tmp_path / "m.tflite")
    assert report.lce_bconv2d == report.binary_layers == 2


def test_ternary_signs_of_which_some_channels_are_constant(tmp_path):
    gains, biases = [0.0, 0.0, 1.0, 1.0] * 2, [1.0, -1.0, 0.0, 0.0] * 2
    gamma, beta = map(keras.initializers.Constant, (gains, biases))
    norm = layers.BatchNormalization(gamma_initializer=gamma, beta_initializer=beta)
    ternary = binary_conv(8, input_quantizer="ste_tern", name="ternary")
    model = keras.Sequential([keras.Input((8, 8, 8)), binary_conv(8), norm, ternary])
    report = convert(model, tmp_path / "m.tflite", allow_float=True)
    assert [row["layer"] for row in report.in_float] == ["ternary"]


@pytest.mark.parametrize("before", ["relu", "relu6"])
def test_a_sign_of_what_is_rectified_is_0_at_0(before, tmp_path):
    keras.utils.set_random_seed(0)
    first = binary_conv(8, activation=before)
    model = chain(first, binary_conv(8, input_quantizer=tf.sign), scramble=False)
    x, path = images(4), tmp_path / "m.tflite"
    convert(model, path, data=x, allow_float=True)
    np.testing.assert_array_equal(Runner(path)(x), model(x))
