"""Layers without a binary kernel: refused all at once, or converted in float."""

import json
import re

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, audit, convert, fake_quantize
from larq_nobn.deploy._graph import as_functional
from larq_nobn.deploy.checks import check_limits, layers_without_kernel
from larq_nobn.deploy.prepare import in_float32, prepare
from larq_nobn.deploy.prepare._in_float import FloatConvolution

pytestmark = pytest.mark.convert
layers = keras.layers
SIGN = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
DEPTHWISE = {"input_quantizer": "ste_sign", "depthwise_quantizer": "ste_sign"}
SHOWN = "binary in the model, float in the file"


def depthwise(name="x", **options):
    return lq.layers.QuantDepthwiseConv2D(3, name=name, **{**DEPTHWISE, **options})


def quantized(kind, *arguments, **options):
    layer = getattr(lq.layers, f"Quant{kind}")
    return lambda name: [layer(*arguments, name=name, **SIGN, **options)]


def conv(*before, **changes):
    return lambda name: [*before, binary_conv(8, name=name, **changes)]


def reshaped(shape, make):
    return lambda name: [layers.Reshape(shape), *make(name)]


def separable(name):
    options = {"pointwise_quantizer": "ste_sign", "strides": 2, **DEPTHWISE}
    return [lq.layers.QuantSeparableConv2D(8, 3, name=name, **options)]


# Weights, and how often each is multiplied: on maps of 8x8 with 32 channels, by hand.
KINDS = {
    "dense": (reshaped((2048,), quantized("Dense", 8)), 2048 * 8, 1),
    "dense_map": (quantized("Dense", 8), 32 * 8, 64),
    "depthwise": (lambda name: [depthwise(name)], 9 * 32, 36),
    "separable": (separable, 9 * 32 + 32 * 8, 9),
    "transposed": (quantized("Conv2DTranspose", 8, 3, strides=2), 9 * 32 * 8, 64),
    "line": (reshaped((64, 32), quantized("Conv1D", 8, 3)), 3 * 32 * 8, 62),
    "volume": (reshaped((8, 8, 32, 1), quantized("Conv3D", 2, 3)), 27 * 2, 36 * 30),
    "local": (quantized("LocallyConnected2D", 4, 7), 4 * 49 * 32 * 4, 1),
    "ternary": (conv(kernel_quantizer="ste_tern"), 9 * 32 * 8, 64),
    "two_bits": (conv(input_quantizer=lq.quantizers.DoReFa(2)), 9 * 32 * 8, 64),
    "groups": (conv(groups=2), 9 * 16 * 8, 64),
    "zero_and_one": (conv(input_quantizer="ste_heaviside"), 9 * 32 * 8, 64),
    "minus_one": (conv(pad_values=-1.0, strides=3), 9 * 32 * 8, 9),
    "small": (conv(layers.AveragePooling2D(4), pad_values=0.0), 9 * 32 * 8, 4),
    "pooled_signs": (
        conv(lq.quantizers.SteSign(), layers.MaxPooling2D(), input_quantizer=None),
        9 * 32 * 8,
        16,
    ),
}


@pytest.fixture(scope="module")
def every_kind():
    """A model with an output for each, behind one binary convolution."""
    inputs = keras.Input((8, 8, 32))
    x = layers.ReLU()(binary_conv(name="first")(inputs))
    ends = []
    for name, (make, _, _) in KINDS.items():
        end = x
        for layer in make(name):
            end = layer(end)
        ends.append(end)
    return scrambled(keras.Model(inputs, ends, name="every"))


def test_what_lacks_a_kernel_and_what_that_costs(every_kind):
    found = layers_without_kernel(as_functional(every_kind))
    costs = {x.layer: (x.macs, x.bytes) for x in found}
    assert costs == {n: (w * uses, 4 * w) for n, (_, w, uses) in KINDS.items()}


def test_in_float_they_compute_the_same(every_kind, tmp_path):
    path, data = tmp_path / "m.tflite", images(64, (8, 8, 32))
    with pytest.raises(ConversionError, match=f"has {len(KINDS)} layers of few bits"):
        convert(every_kind, path)
    assert not any(tmp_path.iterdir())
    report = convert(every_kind, path, data=data, allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers) == (1, 1)
    assert sorted(row["layer"] for row in report.in_float) == sorted(KINDS)
    assert report.verify["examples"] == 64
    pairs = zip(Runner(path.read_bytes())(data), every_kind(data), strict=True)
    for name, (found, expected) in zip(KINDS, pairs, strict=True):
        size = np.abs(expected).max()
        close = np.isclose(found, expected, rtol=1e-3, atol=1e-3 * size)
        # But for signs within rounding of 0.
        assert close.reshape(64, -1).all(axis=1).sum() >= 62, name


def test_two_uses_are_two_costs():
    shared = depthwise(padding="same")
    found = layers_without_kernel(as_functional(chain(shared, shared)))
    assert [(x.layer, x.macs) for x in found] == [("x", 2 * 9 * 32 * 64)]


def test_all_are_refused_in_one_message_and_nothing_is_written(tmp_path):
    rows = [
        depthwise("a", padding="same"),
        binary_conv(8, name="b", kernel_quantizer="ste_tern"),
        binary_conv(name="fine"),
        *quantized("Dense", 8)("c"),
    ]
    message = (
        "Model 'chain' has 3 layers of few bits without a binary kernel in LCE. "
        "Layer 'a' is a binary QuantDepthwiseConv2D, for which LCE has no binary "
        "kernel (18,432 MACs and 1,152 bytes in float). Use a QuantConv2D, or leave "
        "its input or its kernel unquantized. Layer 'b' has inputs of 1 bit and a "
        "kernel of 2 bit, for which LCE has no kernel (147,456 MACs and 9,216 bytes "
        "in float). Use signs for both, such as 'ste_sign', or leave one of them "
        "unquantized. Layer 'c' is a binary QuantDense, for which LCE has no binary "
        "kernel (16,384 MACs and 1,024 bytes in float). Write it as Reshape((1, 1, "
        "-1)), a QuantConv2D with kernel size 1 and Flatten(), or leave its input or "
        "its kernel unquantized. Or pass allow_float=True (--allow-float), which "
        "converts what is named here in float."
    )
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        convert(chain(*rows), tmp_path / "m.tflite")
    assert not any(tmp_path.iterdir())


def test_the_report_and_the_audit_list_them(tmp_path):
    model = chain(binary_conv(name="first"), depthwise(), *head())
    path = tmp_path / "m.tflite"
    report = convert(model, path, allow_float=True, verify=False)
    row = json.loads(report.to_json())["in_float"][0]
    assert row == {
        "layer": "x",
        "kind": "QuantDepthwiseConv2D",
        "finding": "Layer 'x' is a binary QuantDepthwiseConv2D, for which LCE has no "
        "binary kernel",
        "remedy": "Use a QuantConv2D, or leave its input or its kernel unquantized.",
        "macs": 10368,
        "bytes": 1152,
    }
    assert f"{SHOWN}" in str(report)
    assert "x (QuantDepthwiseConv2D): 10,368 MACs, 1,152 bytes" in str(report)
    found = audit(path)
    assert [(r["layer"], r["kind"], r["macs"], r["bytes"]) for r in found.in_float] == [
        ("x", "DEPTHWISE_CONV_2D", 10368, 1152)
    ]
    assert SHOWN in str(found)
    assert "x (DEPTHWISE_CONV_2D): 10,368 MACs, 1,152 bytes" in str(found)


def test_a_file_without_them_lists_none(tmp_path):
    path = tmp_path / "m.tflite"
    report = convert(chain(binary_conv(), *head()), path, allow_float=True)
    assert (report.in_float, audit(path).in_float) == ([], [])
    assert SHOWN not in str(report) + str(audit(path))


def test_a_model_without_binary_layers_converts_on_request(tmp_path):
    model, path, data = chain(layers.ReLU(), *head()), tmp_path / "m.tflite", images(64)
    with pytest.raises(ConversionError, match="no binary layer.*allow_float=True conv"):
        convert(model, path)
    assert not any(tmp_path.iterdir())
    report = convert(model, path, data=data, allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers, report.in_float) == (0, 0, [])
    np.testing.assert_allclose(
        Runner(path.read_bytes())(data), model(data), rtol=1e-4, atol=1e-5
    )


def test_a_layer_is_float_in_all_its_uses(tmp_path):
    """The second of them is on a map that LCE would pad wrongly."""
    shared = binary_conv(name="shared", pad_values=0.0)
    model = chain(shared, layers.AveragePooling2D(4), shared, binary_conv(), *head())
    assert check_limits(as_functional(model), allow_float=True) == 1
    report = convert(model, tmp_path / "m.tflite", allow_float=True, data=images(64))
    assert (report.lce_bconv2d, report.binary_layers) == (1, 1)
    assert [row["macs"] for row in report.in_float] == [9 * 32 * 32 * 4]


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_allow_float_is_a_flag(value, tmp_path):
    with pytest.raises(TypeError, match="allow_float=.* neither True nor False"):
        convert(chain(*head()), tmp_path / "m.tflite", allow_float=value)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"use_bias": True, "activation": "relu", "strides": 2},
        {"dilation_rate": 2, "padding": "valid"},
        {"dilation_rate": (2, 1), "kernel_size": (3, 2), "pad_values": -1.0},
        {"kernel_quantizer": "magnitude_aware_sign", "strides": 3, "pad_values": -1.0},
        {"input_quantizer": nobn.quantizers.RSign(), "groups": 4, "pad_values": 1.0},
    ],
)
def test_a_convolution_that_is_hidden_from_lce_is_the_same(changes, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        options = {"kernel_size": 3, "pad_values": 0.0, **changes}
        size = options.pop("kernel_size")
        model = chain(binary_conv(8, size, name="x", **options), *head())
    finally:
        keras.mixed_precision.set_global_policy("float32")
    hidden, x = prepare(as_functional(model), {"x"}), images()
    assert isinstance(hidden.get_layer("x"), FloatConvolution)
    plain = in_float32(as_functional(model))
    np.testing.assert_allclose(hidden(x), plain(x), rtol=1e-5, atol=1e-5)


def test_beside_int8_they_stay_float(tmp_path):
    model = chain(binary_conv(), layers.ReLU(), depthwise(), *head())
    ranged, data = fake_quantize(model, images(32)), images(64)
    path = tmp_path / "m.tflite"
    report = convert(ranged, path, int8=True, allow_float=True, data=data)
    assert (report.lce_bconv2d, [row["layer"] for row in report.in_float]) == (1, ["x"])
    found, expected = Runner(path.read_bytes())(data), ranged(data)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
