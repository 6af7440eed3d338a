"""What `evaluate` says of single classes, of Keras models and of files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import data, training
from cli.answers import one_sentence
from cli.conftest import Invoke
from larq_nobn._keras import keras
from PIL import Image

LIMIT = 100


@pytest.fixture(scope="module")
def expected(run_folder: Path) -> np.ndarray:
    """The matrix, by a loop over the test images."""
    counts = np.zeros((10, 10), int)
    model = training.open_model(run_folder)
    for images, labels in data.load("digits", "test", 50, limit=LIMIT):
        for label, logits in zip(labels, model(images), strict=True):
            counts[int(label), int(np.argmax(logits))] += 1
    return counts


def test_a_run(run_folder: Path, expected: np.ndarray, invoke: Invoke, tmp_path: Path):
    plot, sheet = tmp_path / "confusion.png", tmp_path / "mistakes.png"
    report = tmp_path / "report.json"
    result = invoke(
        *("evaluate", run_folder, "--limit", LIMIT, "--json", report),
        *("--plot", plot, "--mistakes", sheet),
    )
    assert result.exit_code == 0, result.output
    actual = json.loads(report.read_text())
    assert actual["confusion"] == expected.tolist()
    accuracy = np.diag(expected) / expected.sum(1)
    said = [each["accuracy"] for each in actual["classes"]]
    np.testing.assert_allclose(said, accuracy)
    assert [each["label"] for each in actual["classes"]] == list("0123456789")
    assert actual["accuracy"] <= actual["top5_accuracy"] <= 1
    wrong = expected.sum() - np.trace(expected)
    assert len(actual["mistakes"]) == min(wrong, 24)
    assert all(each["label"] != each["predicted"] for each in actual["mistakes"])
    top5 = rf"│ top5 accuracy +│ {100 * actual['top5_accuracy']:.1f} % "
    assert re.search(top5, result.stdout)
    for picture in (plot, sheet):
        with Image.open(picture) as opened:
            assert min(opened.size) > 200
    # A row per class: what it is taken for, and how often rightly.
    rows = [line.split("│")[1:-1] for line in result.stdout.splitlines() if "│" in line]
    rows = [[cell.strip() for cell in row] for row in rows if len(row) == 12]
    for label, row in enumerate(rows[-10:]):
        counts = [0 if cell == "·" else int(cell) for cell in row[1:11]]
        assert (row[0], counts) == (str(label), expected[label].tolist())
        assert row[11] == f"{100 * accuracy[label]:.1f} %"


def test_classes_of_other_names_are_rejected(invoke: Invoke, tmp_path: Path):
    image = keras.Input((8, 8, 1))
    logits = keras.layers.Dense(12)(keras.layers.Flatten()(image))
    training.save_model(keras.Model(image, logits), tmp_path / "m.keras")
    result = invoke("evaluate", tmp_path / "m.keras", "--dataset", "digits")
    assert "do not fit 10 classes" in one_sentence(result)
