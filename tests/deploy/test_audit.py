"""Audits against models counted by hand, and files that are none."""

import json

import larq_nobn as nobn
import pytest
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, audit, convert

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
        "ADD": 1,  # the shift behind PRELU went into the head
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


def test_an_audit_prints_draws_and_saves(converted, tmp_path):
    found = converted[1]
    assert json.loads(json.dumps(found.to_dict()))["lce_bconv2d"] == 2
    assert json.loads(found.to_json(tmp_path / "a.json")) == found.to_dict()
    assert json.loads((tmp_path / "a.json").read_text()) == found.to_dict()
    found.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_channels_that_fill_no_word_are_counted_exactly(tmp_path):
    layers = [binary_conv(8), binary_conv(8)]
    report = convert(chain(*layers), tmp_path / "m.tflite")
    assert report.binary_macs == 8 * 9 * 64 * (32 + 8)


def damaged(content, how):
    half = len(content) // 2
    return {
        "empty": b"",
        "foreign": b"PK\x03\x04 some archive",
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
        ("cut", "is a damaged TFLite file"),
        ("head only", "is a damaged TFLite file"),
        ("zeroed", "is a damaged TFLite file"),
        ("scrambled", "is a damaged TFLite file"),
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


@pytest.mark.parametrize(
    "name, reason", [("none.tflite", "No such file"), ("", "Is a directory")]
)
def test_files_that_cannot_be_read(tmp_path, name, reason):
    with pytest.raises(ConversionError, match=f"cannot be read: {reason}"):
        audit(tmp_path / name)
