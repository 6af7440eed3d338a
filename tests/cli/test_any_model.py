"""Any Keras file: of open size, of another kind, with layers that stay float."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import larq as lq
import numpy as np
import pytest
from cli.answers import one_sentence
from click.testing import Result
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner

Invoke = Callable[..., Result]
pytestmark = pytest.mark.convert


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    chain(binary_conv(), *head(), shape=(None, None, 3)).save(folder / "open.keras")
    two = [keras.Input((None, None, 3)) for _ in range(2)]
    keras.Model(two, keras.layers.Add()(two)).save(folder / "two.keras")
    local = lq.layers.QuantDepthwiseConv2D(
        3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign", name="local"
    )
    model = chain(local, binary_conv(), *head())
    model.save(folder / "local.keras")
    return folder


def test_an_h5_file_needs_no_data_set(invoke: Invoke, tmp_path: Path):
    model = scrambled(chain(binary_conv(), *head()))
    model.save_weights(tmp_path / "weights.h5")
    with pytest.warns(UserWarning, match="HDF5"):
        model.save(tmp_path / "m.h5", save_format="h5")
    result = invoke("convert", tmp_path / "m.h5", tmp_path / "m.tflite", "--json", "-")
    found = json.loads(result.stdout)
    said = "27 random and 5 regular inputs, 2 of large numbers, seed 0"
    assert found["verify"]["data"] == said
    run = Runner((tmp_path / "m.tflite").read_bytes())
    x = images(64)
    np.testing.assert_allclose(run(x), model(x), rtol=1e-3, atol=1e-4)
    said = one_sentence(
        invoke("convert", tmp_path / "weights.h5", tmp_path / "w.tflite")
    )
    assert "weights.h5 is damaged or not a Keras model: it contains weights at" in said


def test_an_open_size_is_given(invoke: Invoke, files: Path, tmp_path: Path):
    out = tmp_path / "m.tflite"
    result = invoke("convert", files / "open.keras", out, "--input-shape", "10,8,3")
    assert result.exit_code == 0, result.output
    assert Runner(out.read_bytes()).input_tensors[0].shape == (1, 10, 8, 3)


def test_images_of_a_data_set_close_a_size_too(invoke: Invoke, tmp_path: Path):
    rows = [
        binary_conv(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
    chain(*rows, shape=(None, None, 1)).save(tmp_path / "m.keras")
    options = ("--dataset", "digits", "--input-shape", "8,8,1")
    result = invoke("convert", tmp_path / "m.keras", tmp_path / "m.tflite", *options)
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "m.tflite.json").read_text())
    assert card["labels"] == [str(digit) for digit in range(10)]


def test_float_layers_are_listed_on_request(
    invoke: Invoke, files: Path, tmp_path: Path
):
    out = tmp_path / "m.tflite"
    said = one_sentence(invoke("convert", files / "local.keras", out))
    assert "Layer 'local' is a binary QuantDepthwiseConv2D" in said
    assert "(10,368 MACs and 1,152 bytes in float)" in said
    assert "(--allow-float)" in said
    assert not any(tmp_path.iterdir())
    result = invoke("convert", files / "local.keras", out, "--allow-float")
    for shown in (result, invoke("audit", out)):
        assert shown.exit_code == 0, shown.output
        assert "binary in the model, float in the file" in shown.stdout
        assert "local (" in shown.stdout


@pytest.mark.parametrize(
    "name, options, sentence",
    [
        ("open", [], "pass that to convert as input_shape"),
        ("open", ["--input-shape", "10,8"], "input_shape=(10, 8) does not fit"),
        ("open", ["--input-shape", "10,8,1"], "takes (None, None, None, 3)"),
        ("open", ["--input-shape", "10x8x3"], "'10x8x3' is not of the form"),
        ("open", ["--input-shape", "0,8,3"], "input_shape=(0, 8, 3) is not the size"),
        ("two", ["--input-shape", "10,8,3"], "is for models of one input"),
        ("local", ["--input-shape", "10,8,3"], "does not fit the input of model"),
        ("local", ["--allow-float=yes"], "--allow-float' does not take a value"),
    ],
)
def test_wrong_options_are_one_sentence(
    name: str,
    options: list[str],
    sentence: str,
    invoke: Invoke,
    files: Path,
    tmp_path: Path,
):
    result = invoke("convert", files / f"{name}.keras", tmp_path / "m.tflite", *options)
    assert sentence in one_sentence(result)
    assert not any(tmp_path.iterdir())


def test_help_names_the_options(invoke: Invoke):
    shown = invoke("convert", "--help").output
    assert "--allow-float" in shown
    assert "--input-shape H,W,C" in shown
    assert ".keras, .h5 or packed .npz file" in " ".join(shown.split())
