"""Trained networks by their names, in every command that takes a model."""

import json
from pathlib import Path

import pytest
from larq_nobn import data, deploy
from cli.answers import one_sentence
from larq_nobn._keras import keras
from larq_nobn.cli import _deploy, _inputs
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


def test_evaluate_takes_a_name(invoke):
    done = invoke("evaluate", DIGITS, "--limit", 8, "--json", "-")
    actual = json.loads(done.output)
    assert actual["path"] == DIGITS and actual["dataset"] == "digits"


def test_convert_without_the_images_of_training(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """It needs no download: generated images take their place, which is said."""
    origin = _inputs.Origin(data.open_dataset("cifar10").info, {"dataset": "cifar10"})
    image = keras.Input((32, 32, 3))
    logits = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(image))
    network, file = keras.Model(image, logits), tmp_path / "m.tflite"
    monkeypatch.setattr(deploy, "convert", lambda *_, **options: options)
    options = _deploy.converted(network, file, None, origin, str(tmp_path))
    said = capsys.readouterr().err
    assert "Verifying on generated images." in said
    assert "larq-nobn data cifar10" in said
    assert options == {"data": None, "dataset": origin.info}
    with pytest.raises(FileNotFoundError, match="larq-nobn data cifar10"):
        _deploy.converted(network, file, "cifar10", origin, str(tmp_path))


def test_models_for_a_device(invoke):
    rows = json.loads(invoke("models", "--for", "256k,256k", "--json", "-").output)
    assert {row["runtime"] for row in rows} >= {"c", "micro"}
    trained = {row.name: row for row in pretrained()}
    for row in rows:
        assert row["flash_bytes"] <= 256 * 1024 >= row["memory_bytes"]
        if row["network"] in trained:
            assert tuple(row["input_shape"]) == trained[row["network"]].input_shape
    for runtime in ("c", "micro"):  # one of CIFAR-10 fits
        own = [row["network"] for row in rows if row["runtime"] == runtime]
        assert any(name in trained and "cifar10" in name for name in own)
    few = json.loads(invoke("models", "--for", "100k,1M", "--json", "-").output)
    assert all(row["flash_bytes"] <= 100 * 1024 for row in few)
    assert "256k,256k" in one_sentence(invoke("models", "--for", "256k"))
