"""Every command once, as a user types it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn import data, deploy, diagnostics, training
from click.testing import Result
from larq_nobn._keras import keras
from larq_nobn.cli import _demo
from larq_nobn.training._network import take_init

Invoke = Callable[..., Result]


def test_what_is_not_given_comes_from_the_recipe(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, chosen = "recu_cifar", {"normalization": "batch_norm", "epochs": 9}
    begun = []

    def stopped(settings: training.RunSettings, *_: object, **__: object):
        begun.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stopped)
    given = [part for name in chosen for part in (f"--{name}", chosen[name])]
    invoke("train", "--recipe", recipe, *given, "--output", tmp_path / "run")
    assert begun == [training.RunSettings.from_recipe(recipe, **chosen)]


def test_train_says_what_it_starts_from(
    run_folder: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun = []

    def stopped(settings: training.RunSettings, *_: object, **__: object):
        take_init(settings, training.open_model(run_folder), False)
        begun.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stopped)
    given = ("--init", run_folder, "--recipe", "fine_tune", "--backbone-multiplier", 0)
    result = invoke("train", *given, "--dataset", "digits", "--output", tmp_path / "b")
    assert f"10 of 10 weights are from {run_folder}.\n" in result.stdout
    (settings,) = begun
    assert (settings.model, settings.normalization) == ("init", None)
    assert (settings.init, settings.backbone_multiplier) == (str(run_folder), 0)


def test_train_says_nothing_when_quiet(
    run_folder: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen, run = [], training.load_run(run_folder)

    def trained(settings: object, output: object, progress: object, **_: object):
        seen.append(progress)
        return run

    monkeypatch.setattr(training, "train", trained)
    line = ("train", "--dataset", "digits", "--output", tmp_path / "a")
    assert invoke(*line).output != ""
    result = invoke(*line, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert not isinstance(seen[0], bool) and seen[1] is False


def test_train_shows_epochs_and_the_way_on(trained: tuple[Path, Result]):
    folder, result = trained
    assert result.exit_code == 0, result.output
    assert re.search(r"^epoch 1/1: loss \d.*test accuracy", result.stdout, re.M)
    for line in (
        r"^Images: 128 train \(12 to 13 of each of 10 classes\), 128 test \(12 to 13 ",
        r"^Size: 8x8, 1 channel$",
        r"^Augmentation: standard, padded by reflection, not mirrored, they have",
        r"^Network: ReActNet18, nobn, .* [\d,]+ parameters, a TFLite file of about \d",
        r"^Steps: 1 epoch of \d+ steps?, \d+ images each; written to ",
        r"test accuracy .* of 128 images, 95 % interval \d+\.\d to \d+\.\d %",
    ):
        assert re.search(line, result.stdout, re.M), line
    assert "larq-nobn convert" in result.stdout
    assert result.stderr == ""
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["width"] == 8
    assert record["settings"]["blocks"] == [1]
    assert record["settings"]["limit"] == 128


def test_evaluate_averages_the_networks_of_a_posterior(invoke: Invoke, tmp_path: Path):
    image = keras.Input((8, 8, 1))
    x = lq.layers.QuantDense(10, kernel_quantizer="bernoulli_sign")(
        keras.layers.Flatten()(image)
    )
    model = keras.Model(image, keras.layers.BatchNormalization()(x))
    training.save_model(model, tmp_path / "bayesian.keras")
    line = ("evaluate", tmp_path / "bayesian.keras", "--dataset", "digits")
    result = invoke(*line, "--limit", 50, "--samples", 3, "--json", "-")
    actual = json.loads(result.stdout)["sampled"]
    images = data.load("digits", "test", 128, limit=50)
    few = data.load("digits", "train", 128, limit=512, augment=False)
    expected = diagnostics.sampled_predictions(model, images, 3, statistics=few)
    right = expected.probabilities.argmax(1) == expected.labels
    assert actual["samples"] == 3 and 0 < actual["spread"] < 0.5
    assert actual["accuracy"] == pytest.approx(right.mean())


@pytest.mark.convert
def test_keras_and_the_file_have_the_same_accuracy(
    run_folder: Path, lite_file: Path, invoke: Invoke
):
    actual = [
        json.loads(
            invoke("evaluate", path, "--dataset", "digits", "--json", "-").stdout
        )
        for path in (run_folder, lite_file)
    ]
    assert actual[0]["examples"] == data.open_dataset("digits").info.test_examples
    assert actual[0]["accuracy"] == actual[1]["accuracy"]
    assert actual[0]["confusion"] == actual[1]["confusion"]
    assert actual[0]["loss"] == pytest.approx(actual[1]["loss"], rel=1e-3)


@pytest.mark.convert
def test_summary_says_what_each_layer_is_at_inference(run_folder: Path, invoke: Invoke):
    result = invoke("summary", run_folder)
    assert result.exit_code == 0, result.output
    assert "Ratio of MACs that are binarized" in result.stdout
    fate = dict(re.findall(r"│ (\S+) +│ (.*?) +│", result.stdout))
    assert fate["stem_conv"] == "1 CONV_2D"
    assert fate["stage1_block1_conv"].startswith("binary convolution")
    assert "PRELU" in fate["stage1_block1_act"]
    assert fate["head"] == "1 FULLY_CONNECTED"


@pytest.mark.convert
@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_demo_is_resumed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shorter = {"width": 8, "blocks": (1,), "batch_size": 32, "limit": 128, "epochs": 1}
    monkeypatch.setitem(_demo.DEMOS, "digits", shorter)
    folder = tmp_path / "demo"
    files = {"model.tflite", "model.tflite.json", "report.json"}
    with monkeypatch.context() as patch:
        patch.delattr(_demo._deploy, "converted")  # the end of the first attempt
        assert invoke("demo", "--output", folder, "--epochs", 1).exit_code == 1
    (folder / "model.tflite").write_text("old")
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("trained"))
    said = invoke("demo", "--output", folder, "--epochs", 3).stderr
    assert "learning-rate schedule ends after 1 epochs" in said
    result = invoke("demo", "--output", folder, "--epochs", 1)
    assert result.exit_code == 0, result.output
    names = {path.name for path in folder.iterdir()}
    assert names == {"run", *files}
    assert deploy.read_card(folder / "model.tflite").labels == tuple("0123456789")
    record = json.loads((folder / "run" / "run.json").read_text())
    assert record["settings"]["epochs"] == 1
    assert record["settings"]["normalization"] == "nobn"
    report = json.loads((folder / "report.json").read_text())
    assert report["lce_bconv2d"] == report["binary_layers"] == 1
    assert report["verify"]["unexplained"] == 0
    shown = dict(re.findall(r"│ (.+?) +│ (.+?) +│", result.stdout))
    assert shown["binary convolutions"] == "1 of 1"
    accuracies = {shown[f"{name} accuracy"] for name in ("Keras", ".tflite")}
    assert len(accuracies) == 1 and "of 355 images" in accuracies.pop()


def norms(model: keras.Model) -> list[str]:
    kind = keras.layers.BatchNormalization
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


@pytest.fixture(scope="module")
def with_batch_norm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose statistics are not those that it starts with."""
    file = tmp_path_factory.mktemp("norms") / "model.keras"
    model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", 8, blocks=(1,))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(weight + rng.uniform(0.05, 0.2, weight.shape))
    training.save_model(model, file)
    return file


def test_fold_saves_the_same_network_without_batch_norm(
    with_batch_norm: Path, invoke: Invoke, tmp_path: Path
):
    result = invoke("fold", with_batch_norm, tmp_path / "folded.keras")
    assert result.exit_code == 0, result.output
    assert "folded into 'stem_conv'" in result.stdout
    given, folded = map(
        training.open_model, (with_batch_norm, tmp_path / "folded.keras")
    )
    assert len(norms(given)) == 2 and norms(folded) == []
    images = np.random.default_rng(1).normal(size=(8, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(folded(images), given(images), rtol=1e-4, atol=1e-4)


def test_remove_saves_a_network_that_trains_without_batch_norm(
    with_batch_norm: Path, invoke: Invoke, tmp_path: Path
):
    output, report = tmp_path / "free.keras", tmp_path / "report.json"
    result = invoke("remove", with_batch_norm, output, "--alpha", 0.3, "--json", report)
    assert result.exit_code == 0, result.output
    free = training.open_model(output)
    assert norms(free) == []
    assert free.get_layer("stage1_block1_conv").kernel_quantizer.scale == 0.3
    changes = json.loads(report.read_text())["changes"]
    removed = [change["layer"] for change in changes if "Batch" in change["kind"]]
    assert removed == norms(training.open_model(with_batch_norm))


def test_surgery_prints_only_json_when_asked_and_says_if_there_is_no_norm(
    run_folder: Path, invoke: Invoke, tmp_path: Path
):
    content = json.loads(
        invoke("fold", run_folder, tmp_path / "a.keras", "--json", "-").stdout
    )
    assert content["model"] and content["changes"] == []
    shown = invoke("remove", run_folder, tmp_path / "b.keras")
    assert "No batch norm was found" in shown.stdout
    assert all((tmp_path / f"{name}.keras").exists() for name in "ab")
