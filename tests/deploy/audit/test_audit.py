"""Audits against models counted by hand, and files that are none."""

import json

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.audit.lite_files import plain_file
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, audit, convert, diff
from larq_nobn.deploy._audit import audit_bytes
from larq_nobn.deploy.lite._file import edited, read

pytestmark = pytest.mark.convert


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "model.tflite"
    rows = [
        keras.layers.Conv2D(8, 3, padding="same", name="stem"),
        binary_conv(24, name="first", strides=2),
        keras.layers.BatchNormalization(name="norm"),
        binary_conv(16, name="second"),
        keras.layers.DepthwiseConv2D(3, name="depthwise"),
        keras.layers.ReLU(name="relu"),
        nobn.layers.RPReLU(name="act"),
        *head(),
    ]
    model = chain(*rows, stem=False)
    return convert(model, path, verify=False), audit(path), path


def test_operations_and_their_work_are_counted_and_named(converted, tmp_path):
    report, actual, path = converted
    layers = {
        "CONV_2D": ["stem"],
        "DEPTHWISE_CONV_2D": ["relu"],  # fused, and named after the last
        "ADD": ["act"],  # the shift after PRELU went into the head
        "PRELU": ["act"],
        "MEAN": ["pool"],
        "FULLY_CONNECTED": ["head"],
    }
    binary = {"LceBconv2d": 2, "LceQuantize": 1}
    assert actual.ops == {**binary, **dict.fromkeys(layers, 1)}
    assert actual.lce_bconv2d == 2
    assert actual.bitpacked_outputs == 1  # batch norm and sign became thresholds
    assert {op["op"]: op["layers"] for op in report.float_ops} == layers
    assert [op["count"] for op in report.float_ops] == [1] * 6
    # A file does not know the name of the layer that its output comes from.
    layers["FULLY_CONNECTED"] = ["output"]
    assert {op["op"]: op["layers"] for op in actual.float_ops} == layers
    # The channels of the second fill no word of bits.
    first, second = 24 * 3 * 3 * 8 * 4 * 4, 16 * 3 * 3 * 24 * 4 * 4
    assert actual.binary_macs == report.binary_macs == first + second
    stem, depthwise, dense = 8 * 3 * 3 * 3 * 8 * 8, 16 * 3 * 3 * 2 * 2, 16 * 5
    assert actual.float_macs == stem + depthwise + dense
    assert actual.size_bytes == report.size_bytes == path.stat().st_size
    assert json.loads(json.dumps(actual.to_dict()))["lce_bconv2d"] == 2
    assert json.loads(actual.to_json(tmp_path / "a.json")) == actual.to_dict()
    assert json.loads((tmp_path / "a.json").read_text()) == actual.to_dict()


def test_two_files_side_by_side(converted, tmp_path):
    short = tmp_path / "short.tflite"
    layers = binary_conv(8, name="binary"), keras.layers.ReLU(name="relu")
    short.write_bytes(plain_file(chain(*layers, stem=False)))
    actual, path = diff(converted[2], short), converted[2]
    sizes = [file.stat().st_size for file in (path, short)]
    assert actual["numbers"]["size_bytes"] == {
        "path": sizes[0],
        "against": sizes[1],
        "difference": sizes[0] - sizes[1],
    }
    assert actual["numbers"]["lce_bconv2d"]["difference"] == 1
    row = {"path": 2, "against": 1, "difference": 1}
    assert actual["ops"]["binary LceBconv2d"] == row
    assert actual["ops"]["float MEAN"] == {"path": 1, "against": 0, "difference": 1}
    short.write_text("no file of TFLite")
    with pytest.raises(ConversionError, match="is not a TFLite file"):
        diff(path, short)


def refuses(content):
    """Whether a content is rejected, with a sentence and nothing else."""
    try:
        audit_bytes(content, "bad.tflite").to_json()
    except ConversionError as error:
        assert str(error).startswith("'bad.tflite' ")
        return True
    return False


def test_files_with_wrong_bytes_are_rejected_or_read(converted):
    """Where only numbers changed, or an offset leads to another place, none notices."""
    from larq_compute_engine.mlir.python import tflite_schema as schema

    content = converted[2].read_bytes()
    random = np.random.default_rng(0)
    for place in (4, 40, 400, len(content) - 1):
        assert refuses(content[:place])
        assert refuses(b"\x20\0\0\0TFL3" + random.bytes(place))
    refused = 0
    for _ in range(40):
        wrong = bytearray(content)
        place = int(random.integers(-2000, 200))  # tables lie at both ends
        wrong[place] = int(random.choice((0, 1, 127, 128, 255)))
        refused += refuses(bytes(wrong))
    assert 0 < refused < 40
    # LCE's interpreter follows these without looking, and crashes.
    table = schema.Model.GetRootAsModel(content, 0)._tab
    for field in (12, 14, 16):  # metadata buffers, metadata, signatures
        wrong, offset = bytearray(content), table.Offset(field)
        if offset:
            wrong[table.Pos + offset + 3] = 0x7F
            assert refuses(bytes(wrong))


@pytest.mark.parametrize("name", ["DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_a_kernel_of_other_axes_is_damage(converted, name):
    content = converted[2].read_bytes()
    (graph,) = read(content, "m.tflite")
    kernel = next(op.input(1).index for op in graph.operations if op.op == name)

    def flatten(model):
        tensor = model.subgraphs[0].tensors[kernel]
        tensor.shape = np.array([np.prod(tensor.shape)], np.int32)

    with pytest.raises(ConversionError, match=f"is a damaged TFLite.*{name} has a ker"):
        audit_bytes(edited(content, flatten), "m.tflite")
