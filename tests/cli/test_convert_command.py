"""`convert` of any Keras file: of open size, with float layers, to int8, to JSON."""

from __future__ import annotations

import json
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn import data, deploy, training
from cli.answers import one_sentence
from cli.conftest import Invoke
from click.testing import Result
from deploy.nets import binary_conv, chain, head, images, scrambled
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner

pytestmark = pytest.mark.convert


def test_it_verifies_on_images_of_the_run(converted: tuple[Path, Result]):
    file, result = converted
    assert result.exit_code == 0, result.output
    report = json.loads(file.with_name("report.json").read_text())
    assert report["size_bytes"] == file.stat().st_size
    assert report["binary_layers"] == report["lce_bconv2d"] == 1
    assert report["verify"]["examples"] == 256
    assert report["verify"]["unexplained"] == 0
    same = round(256 * report["verify"]["top1_agreement"])
    assert result.stdout == (
        f"verified on test images of digits: same class on {same} of 256 examples; "
        f"1 of 1 binary layers binary; wrote {file} and {file}.json\n"
        f"Input: {report['feed']}\n"
    )
    # And describes the file for an app.
    card, info = deploy.read_card(file), data.open_dataset("digits").info
    mean, std = (f"{number:.4g}" for (number,) in (info.mean, info.std))
    assert report["feed"] == (
        f"float32 1x8x8x1: (pixels / 255 - mean) / std, of mean {mean} and std {std}."
    )
    assert (card.labels, card.dataset) == (info.class_names, "digits")
    assert card.preprocessing == deploy.Preprocessing(info.mean, info.std, (8, 8))


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
    actual = json.loads(result.stdout)
    said = "27 random and 5 regular inputs, 2 of large numbers, seed 0"
    assert actual["verify"]["data"] == said
    run = Runner((tmp_path / "m.tflite").read_bytes())
    x = images(64)
    np.testing.assert_allclose(run(x), model(x), rtol=1e-3, atol=1e-4)
    said = one_sentence(
        invoke("convert", tmp_path / "weights.h5", tmp_path / "w.tflite")
    )
    assert "weights.h5 is damaged or not a Keras model: it contains no model" in said


def test_float_layers_are_listed_on_request(
    invoke: Invoke, files: Path, tmp_path: Path
):
    out = tmp_path / "m.tflite"
    said = one_sentence(invoke("convert", files / "local.keras", out))
    assert "Layer 'local' is a binary QuantDepthwiseConv2D" in said
    assert "(10,368 MACs and 1,152 bytes in float)" in said
    assert "(--allow-float)" in said
    assert not any(tmp_path.iterdir())
    line = ("convert", files / "local.keras", out, "--allow-float", "--verbose")
    result = invoke(*line)
    assert "; 1 of 2 binary layers binary; wrote" in result.stdout
    for shown in (result, invoke("audit", out)):
        assert shown.exit_code == 0, shown.output
        assert "binary in the model, float in the file" in shown.stdout
        assert "local (" in shown.stdout


def test_commands_read_what_python_writes(invoke: Invoke, tmp_path: Path):
    """The model has another size than the images have, and no run."""
    rows = [
        binary_conv(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
    model = scrambled(chain(*rows, shape=(4, 4, 1)))
    file, given = tmp_path / "m.tflite", tmp_path / "m.keras"
    model.save(given)
    result = invoke("convert", given, file, "--dataset", "digits")
    assert "test images of digits" in result.stdout, result.output
    info = data.open_dataset("digits", image_size=4).info
    steps = deploy.Preprocessing(info.mean, info.std, (4, 4))
    card = deploy.read_card(file)
    assert (card.labels, card.preprocessing) == (info.class_names, steps)
    with pytest.raises(ValueError, match="'cifar10' .*maps \\(4, 4, 1\\) to \\(10,"):
        nobn.convert(model, file, dataset="cifar10")
    # Keras' file says nothing of images; its input says their size.
    batches = data.load("digits", "test", 64, image_size=4, limit=64)
    wanted = training.evaluate(model, batches)["accuracy"]
    options = ("--limit", 64, "--force", "--json", tmp_path / "found.json")
    of_given, of_file = (
        invoke("evaluate", *which, *options)
        for which in ((given, "--dataset", "digits"), (file,))  # whose card names it
    )
    assert "4x4, of the model" in of_given.stdout
    for result in (of_given, of_file):
        assert result.exit_code == 0, result.output
        assert f"{100 * wanted:.1f} %" in result.stdout


def test_wrong_options_are_one_sentence(invoke: Invoke, files: Path, tmp_path: Path):
    for name, options, sentence in (
        ("open", "", "pass that to convert as input_shape"),
        ("open", "--input-shape 10,8,1", "takes (None, None, None, 3)"),
        ("two", "--input-shape 10,8,3", "is for models of one input"),
        ("open", "--int8 --input-shape 10,8,3", "contains no ranges"),
        ("local", "--dataset cifar10 --data-dir gone", "larq-nobn data cifar10"),
        ("local", "--int8 --calibrate 8", "with --dataset"),
        (
            "local",
            "--calibrate 8 --runtime litert",
            "neither --int8 nor --runtime micro",
        ),
        ("local", "--io int8 --runtime litert", "io='int8' is for int8 files"),
        ("local", "--pixels --runtime litert", "(--dataset)"),
    ):
        out = tmp_path / "m.tflite"
        result = invoke("convert", files / f"{name}.keras", out, *options.split())
        assert sentence in one_sentence(result)
    assert not any(tmp_path.iterdir())
