"""Audits against models counted by hand, and files that are none."""

import json

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.inspection.lite_files import edited, plain_file
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner, audit, convert
from larq_nobn.deploy.inspection._audit import audit_bytes

pytestmark = pytest.mark.convert


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "model.tflite"
    rows = [
        binary_conv(64, name="first", strides=2),
        keras.layers.BatchNormalization(name="norm"),
        binary_conv(48, name="second"),
        keras.layers.DepthwiseConv2D(3, name="depthwise"),
        keras.layers.ReLU(name="relu"),
        nobn.layers.RPReLU(name="act"),
        *head(),
    ]
    return convert(chain(*rows), path), audit(path), path


def test_operations_are_counted(converted):
    found = converted[1]
    assert found.ops == {
        "LceBconv2d": 2,
        "CONV_2D": 1,
        "LceQuantize": 1,
        "DEPTHWISE_CONV_2D": 1,
        "ADD": 1,  # the shift after PRELU went into the head
        "PRELU": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }
    assert found.lce_bconv2d == 2
    assert found.bitpacked_outputs == 1  # batch norm and sign became thresholds


def test_float_operations_are_named_by_layer(converted):
    report, found, _ = converted
    layers = {op["op"]: op["layers"] for op in report.float_ops}
    assert layers == {
        "CONV_2D": ["stem"],
        "DEPTHWISE_CONV_2D": ["relu"],  # fused, and named after the last
        "ADD": ["act"],
        "PRELU": ["act"],
        "MEAN": ["pool"],
        "FULLY_CONNECTED": ["head"],
    }
    assert [op["count"] for op in report.float_ops] == [1, 1, 1, 1, 1, 1]
    # A file does not know the name of the layer that its output comes from.
    assert {op["op"]: op["layers"] for op in found.float_ops} == {
        **layers,
        "FULLY_CONNECTED": ["output"],
    }


def test_macs_are_counted(converted):
    found = converted[1]
    first = 64 * 3 * 3 * 32 * 4 * 4
    second = 48 * 3 * 3 * 64 * 4 * 4
    assert found.binary_macs == first + second
    stem, depthwise, dense = 32 * 3 * 3 * 3 * 8 * 8, 48 * 3 * 3 * 2 * 2, 48 * 5
    assert found.float_macs == stem + depthwise + dense


def test_sizes_agree(converted):
    report, found, path = converted
    assert found.size_bytes == report.size_bytes == path.stat().st_size


def test_an_audit_prints_and_saves(converted, tmp_path):
    found = converted[1]
    assert json.loads(json.dumps(found.to_dict()))["lce_bconv2d"] == 2
    assert json.loads(found.to_json(tmp_path / "a.json")) == found.to_dict()
    assert json.loads((tmp_path / "a.json").read_text()) == found.to_dict()


def test_channels_that_fill_no_word_are_counted_exactly(tmp_path):
    layers = [binary_conv(8), binary_conv(8)]
    report = convert(chain(*layers), tmp_path / "m.tflite")
    assert report.binary_macs == 8 * 9 * 64 * (32 + 8)


def damaged(content, how):
    half = len(content) // 2
    return {
        "empty": b"",
        "foreign": b"PK\x03\x04 some archive",
        "text": "kein Modell, sondern Text äöü".encode(),
        "cut": content[:half],
        "head only": content[:12],
        "zeroed": content[:8] + bytes(len(content) - 8),
        "scrambled": content[:16] + bytes(range(256)) * (len(content) // 256),
    }[how]


@pytest.mark.parametrize(
    "how, message",
    [
        ("empty", "is not a TFLite file"),
        ("foreign", "is not a TFLite file"),
        ("text", "is not a TFLite file"),
        ("cut", r"is a damaged TFLite file, or .*: \w+: [^.]*"),
        ("head only", r"is a damaged TFLite file, or .*: \w+: [^.]*"),
        ("zeroed", r"is a damaged TFLite file, or .*: \w+: [^.]*"),
        ("scrambled", r"is a damaged TFLite file, or .*: \w+: [^.]*"),
    ],
)
def test_damaged_files_get_one_sentence(converted, tmp_path, how, message):
    path = tmp_path / "bad.tflite"
    path.write_bytes(damaged(converted[2].read_bytes(), how))
    with pytest.raises(
        ConversionError, match=rf"bad\.tflite' {message}\. \w"
    ) as caught:
        audit(path)
    assert "\n" not in str(caught.value)


def refuses(content):
    """Whether a content is rejected, with a sentence and nothing else."""
    try:
        audit_bytes(content, "bad.tflite").to_json()
    except ConversionError as error:
        assert str(error).startswith("'bad.tflite' ")
        return True
    return False


def test_files_cut_anywhere_are_rejected(converted):
    content = converted[2].read_bytes()
    places = [*range(64), *range(64, len(content), 61), len(content) - 1]
    assert all(refuses(content[:place]) for place in places)


def test_random_files_are_rejected():
    random = np.random.default_rng(0)
    for size in range(0, 3000, 30):
        assert refuses(b"\x20\0\0\0TFL3" + random.bytes(size))


def test_files_with_wrong_bytes_are_read_or_rejected(converted):
    """Where only numbers changed, or an offset leads to another place, none notices."""
    content = converted[2].read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(120):
        wrong = bytearray(content)
        # Tables lie at both ends, weights between them.
        place = int(random.integers(-6000, 500))
        wrong[place] = int(random.choice((0, 1, 127, 128, 255)))
        refused += refuses(bytes(wrong))
    assert 2 < refused < 114


def test_offsets_outside_the_file_are_rejected(converted):
    """LCE's interpreter follows these without looking, and crashes."""
    from larq_compute_engine.mlir.python import tflite_schema as schema

    content = bytearray(converted[2].read_bytes())
    model = schema.Model.GetRootAsModel(content, 0)
    for field in (12, 14, 16):  # metadata buffers, metadata, signatures
        offset = model._tab.Offset(field)
        if offset:
            wrong = bytearray(content)
            wrong[model._tab.Pos + offset + 3] = 0x7F
            assert refuses(bytes(wrong))
    assert refuses(bytes(content[: model._tab.Pos]) + bytes(8))


def test_a_damaged_file_that_loads_and_cannot_run_gets_one_sentence():
    from flatbuffers import flexbuffers

    def change(model):
        op = model.subgraphs[0].operators[-1]
        options = flexbuffers.Loads(op.customOptions.tobytes())
        options["dilation_height_factor"] = -128
        op.customOptions = np.frombuffer(flexbuffers.Dumps(options), np.uint8)

    net = chain(binary_conv(32, pad_values=0.0), stem=False, shape=(8, 8, 32))
    run = Runner(edited(plain_file(net), change))
    with pytest.raises(ConversionError, match="cannot be run on these inputs: .*Error"):
        run(np.zeros((1, 8, 8, 32), np.float32))


def test_a_file_that_claims_to_be_huge_is_answered(converted):
    def change(model):
        for tensor in model.subgraphs[0].tensors:
            if tensor.buffer == 0 or model.buffers[tensor.buffer].data is None:
                tensor.shape = np.full(4, 2**31 - 1, np.int32)

    found = audit_bytes(edited(converted[2].read_bytes(), change), "huge")
    assert found.peak_activation_bytes > 2**100
    assert str(found)


@pytest.mark.parametrize(
    "name, reason", [("none.tflite", "No such file"), ("", "Is a directory")]
)
def test_files_that_cannot_be_read(tmp_path, name, reason):
    with pytest.raises(ConversionError, match=f"cannot be read: {reason}"):
        audit(tmp_path / name)
