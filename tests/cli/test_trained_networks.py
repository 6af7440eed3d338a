"""Trained networks by their names, in every command that takes a model."""

import json

import larq_nobn as nobn
import numpy as np
import pytest
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


def test_predict_prepares_images_as_in_training(invoke, tmp_path):
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    files = []
    for place in (4, 17, 120):  # as the data set makes bytes of 0 to 16
        gray = np.rint(bunch.images[place] * (255 / 16)).astype(np.uint8)
        files.append(tmp_path / f"{bunch.target[place]}-{place}.png")
        Image.fromarray(gray).save(files[-1])
    found = json.loads(invoke("predict", DIGITS, *files, "--json", "-").output)
    best = [each["predictions"][0]["label"] for each in found]
    assert best == [file.name[0] for file in files]


@pytest.mark.convert
@pytest.mark.slow
def test_convert_writes_class_names_and_preprocessing(invoke, tmp_path):
    done = invoke("convert", DIGITS, tmp_path / "digits.tflite")
    assert done.exit_code == 0, done.output
    card = nobn.deploy.read_card(tmp_path / "digits.tflite")
    assert card.labels == tuple("0123456789")
    assert card.preprocessing.size == (8, 8)


@pytest.mark.convert
@pytest.mark.slow
def test_convert_without_the_images_of_training(invoke, tmp_path):
    """It needs no download: generated images take their place, which is said."""
    network, file = "reactnet18-w16-cifar10", tmp_path / "m.tflite"
    line = ("convert", network, file, "--data-dir", tmp_path, "--json", tmp_path / "j")
    done = invoke(*line)
    assert done.exit_code == 0, done.output
    assert "Verifying on generated images." in done.stderr
    assert "larq-nobn data cifar10" in done.stderr
    verified = json.loads((tmp_path / "j").read_text())["verify"]
    assert verified["data"] != "the given data" and verified["unexplained"] == 0
    assert len(nobn.deploy.read_card(file).labels) == 10
    chosen = invoke(*line, "--dataset", "cifar10", "--force")
    assert chosen.exit_code == 2 and "larq-nobn data cifar10" in chosen.stderr


def test_train_starts_from_one(invoke, tmp_path, eager):
    options = ("--dataset", "digits", "--epochs", 1, "--limit", 64)
    done = invoke(
        "train", "--init", DIGITS, *options, "--output", tmp_path / "run",
        "--recipe", "fine_tune",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["init"] == DIGITS
    assert record["init"]["fresh"] == []


@pytest.mark.parametrize("command", ["evaluate", "summary", "fold"])
def test_unknown_names_are_rejected_in_one_sentence(invoke, tmp_path, command):
    more = [tmp_path / "out.keras"] if command == "fold" else []
    done = invoke(command, "reactnet50", *more)
    assert done.exit_code == 2
    assert "'reactnet50' does not exist. Give a run folder" in done.output


@pytest.mark.parametrize(
    "words",
    [
        ("models", "--json", "nowhere/a.json"),
    ],
)
def test_wrong_input(invoke, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert not list(tmp_path.iterdir())
