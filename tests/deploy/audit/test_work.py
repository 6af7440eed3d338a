"""Multiplications, bytes and kinds of operations, counted by hand."""

import re

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.audit.lite_files import audited, audited_chain, plain_file
from deploy.nets import binary_conv, chain, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, benchmark
from larq_nobn.deploy._audit import audit_bytes

pytestmark = pytest.mark.convert
_layers = keras.layers


def rows_of(actual, op):
    return [row for row in actual.operations if row["op"] == op]


# (8, 8, 32) goes in. The operation, its multiplications, and its weights with bias.
FLOAT = (
    (_layers.Conv2D(16, 3, padding="same", strides=2, name="strides"),
     *("CONV_2D", 4 * 4 * 16 * 9 * 32, 16 * 9 * 32 + 16)),
    (_layers.Conv2D(16, (1, 3), strides=(2, 1), name="unequal"),
     *("CONV_2D", 4 * 6 * 16 * 3 * 32, 16 * 3 * 32 + 16)),
    (_layers.Conv2D(16, 3, groups=4, name="groups"),
     *("CONV_2D", 6 * 6 * 16 * 9 * 8, 16 * 9 * 8 + 16)),
    (_layers.Conv2D(16, 3, dilation_rate=2, name="dilation"),
     *("CONV_2D", 4 * 4 * 16 * 9 * 32, 16 * 9 * 32 + 16)),
    (_layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, name="depthwise"),
     *("DEPTHWISE_CONV_2D", 3 * 3 * 64 * 9, 9 * 64 + 64)),
    (_layers.Conv2DTranspose(4, 3, strides=2, use_bias=False, name="transposed"),
     *("TRANSPOSE_CONV", 8 * 8 * 4 * 9 * 32, 4 * 9 * 32 + 4)),
    (_layers.Dense(5, name="dense"),
     *("FULLY_CONNECTED", 8 * 8 * 5 * 32, 5 * 32 + 5)),
)  # fmt: skip
# Of binary convolutions with 48 filters, at how many positions they compute.
BINARY = (
    (binary_conv(48, name="b_strides", strides=2), 4 * 4),
    (binary_conv(48, name="b_valid", padding="valid"), 6 * 6),
    (binary_conv(48, name="b_dilation", dilation_rate=2), 8 * 8),
    (binary_conv(48, (1, 3), name="b_unequal"), 8 * 8 / 3),
)


def test_operations_counted_by_hand():
    inputs, layers = keras.Input((8, 8, 32)), [row[0] for row in (*FLOAT, *BINARY)]
    grouped = binary_conv(64, name="b_groups", groups=2)
    ends = [layer(inputs) for layer in layers]
    ends.append(grouped(binary_conv(64, name="before")(inputs)))
    actual = audited(scrambled(keras.Model(inputs, ends)))
    # What writes bits bears the name of any of the equal signs before it.
    kernels = (row for row in actual.operations[::-1] if row["weight_bytes"])
    # Of two operations with one name, the first is that of an output.
    rows = {row["layer"]: row for row in kernels if not row["writes_bits"]}
    for layer, op, macs, weights in FLOAT:
        row = rows[layer.name]
        assert (row["op"], row["float_macs"]) == (op, macs), layer.name
        assert row["binary_macs"] == row["int8_macs"] == 0
        # Transposed convolutions hold the shape of their output too.
        assert row["weight_bytes"] - 4 * weights in (0, 16), layer.name
    for layer, positions in BINARY:
        row = rows[layer.name]
        assert row["binary_macs"] == positions * 48 * 9 * 32, layer.name
        assert row["float_macs"] == 0
    assert rows["b_groups"]["binary_macs"] == 64 * 64 * 9 * 32
    assert actual.float_macs == sum(macs for _, _, macs, _ in FLOAT)


@pytest.fixture(scope="module")
def chained():
    layers = [
        binary_conv(64, name="bits", strides=2),
        binary_conv(40, 1, name="floats", padding="valid"),
        _layers.BatchNormalization(name="norm"),
        _layers.MaxPool2D(name="pool"),
        binary_conv(8, name="zeros", pad_values=0.0),
    ]
    return audited_chain(*layers)


def test_bits_and_padding(chained):
    columns = ("op", "layer", "output_shape", "output_type", "padding", "strides")
    assert [tuple(row[c] for c in columns) for row in chained.operations] == [
        ("LceQuantize", "bits", [1, 8, 8, 32], "bits", None, None),
        ("LceBconv2d", "bits", [1, 4, 4, 64], "bits", "one", [2, 2]),
        ("LceBconv2d", "floats", [1, 4, 4, 40], "bits", "valid", [1, 1]),
        ("LceBMaxPool2d", "zeros", [1, 2, 2, 40], "bits", "valid", [2, 2]),
        ("LceBconv2d", "zeros", [1, 2, 2, 8], "float32", "zero", [1, 1]),
    ]
    packed = [(row["reads_bits"], row["writes_bits"]) for row in chained.operations]
    assert packed == [(False, True), *[(True, True)] * 3, (True, False)]
    assert chained.bitpacked_outputs == 2
    assert [row["reads"] for row in chained.operations] == [[], [0], [1], [2], [3]]


def test_bytes(chained):
    rows = chained.operations
    # Words of 32 bits: 8 * 8 * 1, 4 * 4 * 2, 4 * 4 * 2, 2 * 2 * 2; then floats.
    assert [row["activation_bytes"] for row in rows] == [256, 128, 128, 32, 128]
    # Filters of 9 and 2 words, and a threshold per channel; last, filters of 9 * 2
    # words, a multiplier and a bias.
    expected = [0, 4 * 64 * (9 + 1), 4 * 40 * (2 + 1), 0, 4 * 8 * (9 * 2 + 2)]
    assert [row["weight_bytes"] for row in rows] == expected
    # The input of 8 * 8 * 32 floats, and the first sign's bits.
    assert chained.peak_activation_bytes == 4 * 8 * 8 * 32 + 256


def test_what_is_still_needed_counts_as_alive():
    inputs = keras.Input((8, 8, 32))
    x = _layers.ReLU()(inputs)
    y = _layers.Conv2D(64, 1)(x)
    outputs = _layers.Concatenate()([_layers.ReLU()(y), x])
    actual = audited(keras.Model(inputs, outputs))
    assert actual.ops == {"RELU": 1, "CONV_2D": 1, "CONCATENATION": 1}
    # In the end: x, the convolution (its ReLU is fused), and both side by side.
    assert actual.peak_activation_bytes == 4 * 8 * 8 * (32 + 64 + 96)


def fake(low, high):
    return _layers.Lambda(
        lambda x: tf.quantization.fake_quant_with_min_max_vars(x, low, high)
    )


@pytest.fixture(scope="module")
def int8():
    import larq_compute_engine as lce

    layers = [
        *(fake(-3.0, 3.0), _layers.Conv2D(32, 3, padding="same", name="stem")),
        *(fake(-4.0, 4.0), binary_conv(32, name="binary")),
        *(_layers.BatchNormalization(), fake(-6.0, 6.0)),
        *(_layers.DepthwiseConv2D(3, name="depthwise"), fake(-6.0, 6.0)),
        *(_layers.Flatten(), _layers.Dense(5, name="head"), fake(-6.0, 6.0)),
    ]
    return lce.convert_keras_model(chain(*layers, stem=False))


def test_integer_operations_are_not_float(int8):
    actual = audit_bytes(int8, "int8")
    assert {op["op"]: op["count"] for op in actual.int8_ops} == {
        "CONV_2D": 1,
        "DEPTHWISE_CONV_2D": 1,
        "FULLY_CONNECTED": 1,
        "QUANTIZE": 1,
        "DEQUANTIZE": 1,
    }
    assert actual.float_ops == []
    assert actual.lce_bconv2d == 1
    assert actual.float_macs == 0
    stem, depthwise = 64 * 32 * 27, 36 * 32 * 9
    assert actual.int8_macs == stem + depthwise + 5 * 36 * 32
    assert actual.binary_macs == 64 * 32 * 9 * 32
    (row,) = rows_of(actual, "LceBconv2d")
    assert (row["kind"], row["output_type"]) == ("binary", "int8")
    assert "int8 DEPTHWISE_CONV_2D" in str(actual)


def test_outputs_have_the_names_of_their_layers():
    inputs = keras.Input((8, 8, 3))
    x = _layers.Conv2D(4, 3, name="one")(inputs)
    outputs = [_layers.Conv2D(4, 3, name="two")(x), x]
    actual = audited(scrambled(keras.Model(inputs, outputs, name="both")))
    assert sorted(row["layer"] for row in actual.operations) == ["one", "two"]


def test_work_bears_the_name_of_its_kernel():
    """Not of the sum that the converter fuses into it."""
    inputs = keras.Input((8, 8, 3))
    x = _layers.Conv2D(4, 3, use_bias=False, name="work")(inputs)
    x = _layers.Lambda(lambda x: x + np.arange(1.0, 5.0), name="shift")(x)
    model = keras.Model(inputs, _layers.MaxPool2D()(x), name="net")
    row = audit_bytes(plain_file(model), "file").operations[0]
    assert (row["op"], row["layer"]) == ("CONV_2D", "work")


def of_open_size():
    """A file of TensorFlow's converter."""
    inputs = keras.Input((None, None, 3))
    outputs = _layers.Conv2D(4, 3, padding="same")(inputs)
    model = keras.Model(inputs, outputs)
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def test_open_sizes_are_counted_as_one_and_said(tmp_path):
    path = tmp_path / "open.tflite"
    path.write_bytes(of_open_size())
    actual = nobn.audit(path)
    (row,) = actual.operations
    assert (row["float_macs"], actual.float_macs) == (4 * 27, 4 * 27)
    assert row["output_shape"] == [1, None, None, 4]
    (given,) = actual.open_inputs
    assert given["shape"] == [1, None, None, 3]
    assert actual.to_dict()["open_inputs"] == [given]
    printed = re.sub(r"[\s│]+", " ", str(actual))
    assert "?x?x3; MACs and bytes are those of size 1" in printed
    assert "?x?x4 f32" in printed
    # Its interpreter would take a single position for the image.
    sentence = r"leaves sizes of an example open: \?x\?x3\. Convert the model again"
    for run in (Runner, benchmark):
        with pytest.raises(ConversionError, match=sentence):
            run(path)
