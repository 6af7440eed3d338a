"""Two files side by side."""

import json

import pytest
from deploy.inspection.lite_files import plain_file
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, diff

pytestmark = pytest.mark.convert


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("difference")
    relu = keras.layers.ReLU(name="relu")
    norm = keras.layers.BatchNormalization(name="norm")
    models = {
        "short": [binary_conv(32, name="binary"), *head()],
        "long": [binary_conv(32, name="binary", pad_values=0.0), norm, relu, *head()],
    }
    paths = {}
    for name, layers in models.items():
        paths[name] = folder / f"{name}.tflite"
        paths[name].write_bytes(plain_file(chain(*layers, name="net")))
    return paths


@pytest.fixture(scope="module")
def found(files):
    return diff(files["long"], files["short"])


def test_numbers(found, files):
    sizes = [files[name].stat().st_size for name in ("long", "short")]
    assert found.numbers["size_bytes"] == {
        "path": sizes[0],
        "against": sizes[1],
        "difference": sizes[0] - sizes[1],
    }
    same = found.numbers["binary_macs"]
    assert same == {"path": 589824, "against": 589824, "difference": 0}
    assert found.numbers["lce_bconv2d"]["difference"] == 0


def test_operations(found):
    counts = {(row["kind"], row["op"]): row["difference"] for row in found.ops}
    assert counts == {
        ("binary", "LceBconv2d"): 0,
        ("binary", "LceQuantize"): 0,
        ("float", "CONV_2D"): 0,
        ("float", "FULLY_CONNECTED"): 0,
        ("float", "MEAN"): 0,
        ("float", "RELU"): 1,
    }
    (relu,) = (row for row in found.ops if row["op"] == "RELU")
    assert (relu["path"], relu["against"]) == (1, 0)


def test_layers(found):
    # What batch norm was fused into has its name; the sign still has that of the layer.
    assert found.only_in_path == ["norm", "relu"]
    assert found.only_in_against == []
    assert found.changed_layers == [
        {
            "layer": "binary",
            "path": ["LceQuantize"],
            "against": ["LceQuantize", "LceBconv2d (one-pad)"],
        }
    ]


def test_a_file_does_not_differ_from_itself(files):
    found = diff(files["short"], files["short"])
    differences = [*found.numbers.values(), *found.ops]
    assert all(row["difference"] == 0 for row in differences)
    assert found.only_in_path == found.only_in_against == found.changed_layers == []
    assert "layers that differ" not in str(found)


def test_it_prints_and_saves(found, tmp_path):
    assert "float RELU" in str(found)
    assert "layers that differ" in str(found)
    saved = json.loads(found.to_json(tmp_path / "difference.json"))
    assert saved == found.to_dict() == json.loads(json.dumps(found.to_dict()))


def test_both_files_must_be_intact(files, tmp_path):
    (tmp_path / "text.tflite").write_text("text")
    with pytest.raises(ConversionError, match=r"text\.tflite' is not a TFLite file"):
        diff(files["short"], tmp_path / "text.tflite")
