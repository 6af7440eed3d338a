"""`larq-nobn audit` on files of other converters, and on files that are none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from larq_nobn import deploy
from click.testing import Result
from deploy.inspection.lite_files import plain_file
from deploy.nets import binary_conv, chain
from larq_nobn._keras import keras
from larq_nobn.cli._models import lite_predictor

pytestmark = pytest.mark.convert
Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("audit")
    zeros = [binary_conv(32, pad_values=0.0), keras.layers.ReLU(), binary_conv(32)]
    for name, layers in (("one", [binary_conv(32)]), ("zero", zeros)):
        content = plain_file(chain(*layers, name=name))
        (folder / f"{name}.tflite").write_bytes(content)
    return folder / "one.tflite", folder / "zero.tflite"


def test_it_shows_operations_and_savings(files: tuple[Path, Path], invoke: Invoke):
    shown = invoke("audit", files[1])
    assert shown.exit_code == 0
    assert "LceBconv2d (zero-pad)" in shown.stdout
    assert "what could be saved" in shown.stdout
    assert "what could be saved" not in invoke("audit", files[0]).stdout


def test_it_compares(files: tuple[Path, Path], invoke: Invoke):
    shown = invoke("audit", files[1], "--against", files[0])
    assert shown.exit_code == 0
    assert "float RELU" in shown.stdout
    assert "binary MACs" in shown.stdout
    report = invoke("audit", files[1], "--against", files[0], "--json", "-")
    assert json.loads(report.stdout) == deploy.diff(*files[::-1])


def test_the_other_file_must_be_intact_too(
    files: tuple[Path, Path], invoke: Invoke, tmp_path: Path
):
    (tmp_path / "text.tflite").write_text("text")
    refused = invoke("audit", files[0], "--against", tmp_path / "text.tflite")
    assert refused.exit_code == 2
    assert "text.tflite' is not a TFLite file. Pass a file" in refused.stderr


def test_images_of_another_size(files: tuple[Path, Path], invoke: Invoke):
    result = invoke("evaluate", files[0], "--dataset", "digits", "--limit", 8)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    taken = deploy.Runner(files[0].read_bytes()).input_tensors[0].shape[1:]
    assert taken != (8, 8, 1)
    assert (
        f"one.tflite takes images of shape {taken}, but these have (8, 8, 1). Choose "
        "the data set that it was trained on."
    ) in result.stderr


def test_only_files_with_one_output_are_evaluated(tmp_path: Path):
    inputs = keras.Input((8, 8, 3))
    outputs = [keras.layers.ReLU(name=name)(inputs) for name in "ab"]
    outputs[1] = keras.layers.Softmax()(outputs[1])
    path = tmp_path / "two.tflite"
    path.write_bytes(plain_file(keras.Model(inputs, outputs)))
    message = r"two\.tflite has 1 inputs and 2 outputs, but only a file that takes"
    with pytest.raises(ValueError, match=message):
        lite_predictor(path)
