"""Trained networks by their names, in every command that takes a model."""

import json
from pathlib import Path

import larq_nobn as nobn
import pytest
from larq_nobn import data
from deploy.nets import binary_conv, chain
from larq_nobn._keras import keras
from larq_nobn.cli import _deploy, _models
from larq_nobn.models import pretrained

DIGITS = "reactnet18-w32-digits"


def test_models_lists_them(invoke):
    done = invoke("models")
    assert done.exit_code == 0
    rows = json.loads(invoke("models", "--json", "-").output)
    assert [row["name"] for row in rows] == [row.name for row in pretrained()]
    for row in pretrained():
        assert row.name in done.output
        assert f"{100 * row.accuracy:.1f} %" in done.output


def test_evaluate_gives_the_accuracy_of_the_row(invoke):
    done = invoke("evaluate", DIGITS, "--json", "-")
    found = json.loads(done.output)
    (row,) = (row for row in pretrained() if row.name == DIGITS)
    assert found["accuracy"] == pytest.approx(row.accuracy, abs=5e-4)
    assert found["path"] == DIGITS and found["dataset"] == "digits"


@pytest.mark.convert
def test_convert_without_the_images_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """It needs no download: generated images take their place, which is said."""
    origin = _models.Origin(data.open_dataset("cifar10").info, {"dataset": "cifar10"})
    pool = keras.layers.GlobalAveragePooling2D()
    layers = binary_conv(), pool, keras.layers.Dense(10)
    network, file = chain(*layers, shape=(32, 32, 3)), tmp_path / "m.tflite"
    report = _deploy.converted(network, file, None, origin, str(tmp_path))
    said = capsys.readouterr().err
    assert "Verifying on generated images." in said
    assert "larq-nobn data cifar10" in said
    assert report.verify["data"] != "the given data"
    assert report.verify["unexplained"] == 0
    assert len(nobn.deploy.read_card(file).labels) == 10
    with pytest.raises(FileNotFoundError, match="larq-nobn data cifar10"):
        _deploy.converted(network, file, "cifar10", origin, str(tmp_path))
