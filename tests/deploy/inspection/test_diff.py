"""Two files side by side."""

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
    numbers = found["numbers"]
    assert numbers["size_bytes"] == {
        "path": sizes[0],
        "against": sizes[1],
        "difference": sizes[0] - sizes[1],
    }
    same = {"path": 589824, "against": 589824, "difference": 0}
    assert numbers["binary_macs"] == same
    assert numbers["lce_bconv2d"]["difference"] == 0


def test_operations(found):
    counts = {name: row["difference"] for name, row in found["ops"].items()}
    assert counts == {
        "binary LceBconv2d": 0,
        "binary LceQuantize": 0,
        "float CONV_2D": 0,
        "float FULLY_CONNECTED": 0,
        "float MEAN": 0,
        "float RELU": 1,
    }
    assert found["ops"]["float RELU"] == {"path": 1, "against": 0, "difference": 1}


def test_both_files_must_be_intact(files, tmp_path):
    (tmp_path / "text.tflite").write_text("no file of TFLite")
    with pytest.raises(ConversionError, match="is not a TFLite file"):
        diff(files["short"], tmp_path / "text.tflite")
