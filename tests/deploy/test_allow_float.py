"""Layers without a binary kernel: refused all at once, or converted in float."""

import json
import re

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head, images
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


def separable():
    return lq.layers.QuantSeparableConv2D(
        8, 3, pointwise_quantizer="ste_sign", name="x", strides=2, **DEPTHWISE
    )


def flat(name="x"):
    return lq.layers.QuantDense(8, name=name, **SIGN)


# The multiplications by hand: weights times positions, of 8x8 maps of 32 channels.
COSTS = {
    "dense": ([layers.Flatten(), flat()], 2048 * 8, 2048 * 8),
    "dense on a map": ([flat()], 32 * 8, 32 * 8 * 64),
    "depthwise": ([depthwise()], 9 * 32, 9 * 32 * 36),
    "separable": ([separable()], 9 * 32 + 32 * 8, (9 * 32 + 32 * 8) * 9),
    "transposed": (
        [lq.layers.QuantConv2DTranspose(8, 3, strides=2, name="x", **SIGN)],
        9 * 32 * 8,
        9 * 32 * 8 * 64,
    ),
    "1D": (
        [layers.Reshape((64, 32)), lq.layers.QuantConv1D(8, 3, name="x", **SIGN)],
        3 * 32 * 8,
        3 * 32 * 8 * 62,
    ),
    "3D": (
        [
            layers.Reshape((8, 8, 32, 1)),
            lq.layers.QuantConv3D(8, 3, name="x", **SIGN),
        ],
        27 * 8,
        27 * 8 * 36 * 30,
    ),
    "locally connected": (
        [lq.layers.QuantLocallyConnected2D(4, 7, name="x", **SIGN)],
        4 * 49 * 32 * 4,
        4 * 49 * 32 * 4,
    ),
    "ternary": ([binary_conv(8, name="x", kernel_quantizer="ste_tern")], 2304, 147456),
    "2 bits": (
        [binary_conv(8, name="x", input_quantizer=lq.quantizers.DoReFa(2))],
        2304,
        147456,
    ),
    "groups": ([binary_conv(8, name="x", groups=2)], 1152, 1152 * 64),
    "0 and 1": (
        [binary_conv(8, name="x", input_quantizer="ste_heaviside")],
        2304,
        147456,
    ),
    "padded with -1": (
        [binary_conv(8, name="x", pad_values=-1.0, strides=3)],
        2304,
        2304 * 9,
    ),
    "small maps": (
        [layers.AveragePooling2D(4), binary_conv(8, name="x", pad_values=0.0)],
        2304,
        2304 * 4,
    ),
    "joined signs": (
        [
            lq.quantizers.SteSign(),
            layers.MaxPooling2D(),
            binary_conv(8, name="x", input_quantizer=None),
        ],
        2304,
        2304 * 16,
    ),
}
each_kind = pytest.mark.parametrize("kind", COSTS)


@each_kind
def test_what_lacks_a_kernel_and_what_that_costs(kind):
    rows, weights, macs = COSTS[kind]
    found = layers_without_kernel(as_functional(chain(*rows)))
    assert [(x.layer, x.macs, x.bytes) for x in found] == [("x", macs, 4 * weights)]


def test_two_uses_are_two_costs():
    shared = depthwise(padding="same")
    found = layers_without_kernel(as_functional(chain(shared, shared)))
    assert [(x.layer, x.macs) for x in found] == [("x", 2 * 9 * 32 * 64)]


@each_kind
def test_in_float_they_compute_the_same(kind, tmp_path):
    """Behind a binary convolution, so that both kinds stand in one file."""
    rows, _, macs = COSTS[kind]
    before = [binary_conv(name="first"), layers.ReLU(), *rows]
    end = [] if kind in ("dense", "1D", "3D", "dense on a map") else head()
    model = chain(*before, *end)
    path, data = tmp_path / "m.tflite", images(64)
    report = convert(model, path, data=data, allow_float=True)
    assert (report.lce_bconv2d, report.binary_layers) == (1, 1)
    assert [row["layer"] for row in report.in_float] == ["x"]
    assert report.verify["examples"] == 64
    found, expected = Runner(path.read_bytes())(data), model(data).numpy()
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert close.reshape(64, -1).all(axis=1).sum() >= 62  # signs within rounding of 0


def test_all_are_refused_in_one_message_and_nothing_is_written(tmp_path):
    rows = [
        depthwise("a", padding="same"),
        binary_conv(8, name="b", kernel_quantizer="ste_tern"),
        binary_conv(name="fine"),
        flat("c"),
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
