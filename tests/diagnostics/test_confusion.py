"""What is taken for what, counted by loops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from larq_nobn.diagnostics import ConfusionMatrix, Mistakes, reliability_diagram
from larq_nobn.training._run_folder import draw_curves
from PIL import Image
from sklearn import metrics

RNG = np.random.default_rng(0)
# Whole numbers, for ties.
OUTPUTS = RNG.integers(-2, 3, (60, 7)).astype(np.float64)
LABELS = RNG.integers(0, 6, 60)  # class 6 has no example


@pytest.fixture(scope="module")
def counted() -> ConfusionMatrix:
    actual = ConfusionMatrix()
    for part in (slice(0, 25), slice(25, 60)):
        actual.update(LABELS[part], OUTPUTS[part])
    return actual


def place(label: int, outputs: np.ndarray) -> int:
    """Where a class stands in a stable order of falling outputs."""
    return sorted(range(len(outputs)), key=lambda k: -outputs[k]).index(label)


def test_scikit_learn_counts_the_same(counted: ConfusionMatrix):
    predicted = OUTPUTS.argmax(1)
    expected = metrics.confusion_matrix(LABELS, predicted, labels=range(7))
    np.testing.assert_array_equal(counted.counts, expected)
    recall = metrics.recall_score(LABELS, predicted, labels=range(6), average=None)
    np.testing.assert_allclose(counted.accuracies()[:6], recall)
    assert np.isnan(counted.accuracies()[6])
    assert counted.class_names == tuple("0123456")


def test_top5(counted: ConfusionMatrix):
    among = [place(y, o) < 5 for o, y in zip(OUTPUTS, LABELS, strict=True)]
    assert counted.top5() == pytest.approx(np.mean(among))
    few = ConfusionMatrix()
    assert few.top5() is None
    few.update([0], [[1.0, 2.0, 3.0, 4.0, 5.0]])
    assert few.top5() is None


def test_the_most_frequent_mistakes_come_first(counted: ConfusionMatrix):
    pairs = counted.confused(5)
    wrong = counted.counts * (1 - np.eye(7, dtype=int))
    assert [n for *_, n in pairs] == sorted(wrong.ravel(), reverse=True)[:5]
    assert all(counted.counts[i, j] == n and i != j for i, j, n in pairs)
    right = ConfusionMatrix(["a", "b"])
    right.update([0, 1], np.eye(2))
    assert right.confused() == []


def test_as_json(counted: ConfusionMatrix):
    actual = json.loads(json.dumps(counted.to_dict(), allow_nan=False))
    assert actual["confusion"] == counted.counts.tolist()
    assert actual["top5_accuracy"] == counted.top5()
    assert actual["classes"][6] == {"label": "6", "examples": 0, "accuracy": None}
    assert actual["classes"][0]["examples"] == np.sum(LABELS == 0)
    i, j, times = counted.confused()[0]
    first = {"label": str(i), "predicted": str(j), "count": times}
    assert actual["confused"][0] == first


@pytest.mark.parametrize(
    "names, labels, outputs, sentence",
    [
        (None, [0, 1], np.zeros((3, 2)), r"outputs of shape \(3, 2\) and labels of"),
        (["a", "b"], [0], np.zeros((1, 3)), "do not fit 2 classes"),
    ],
)
def test_what_does_not_fit(names, labels, outputs, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ConfusionMatrix(names).update(labels, outputs)


def softmax(outputs: np.ndarray) -> np.ndarray:
    powers = np.exp(outputs)
    return powers / powers.sum(1, keepdims=True)


def test_the_worst_mistakes():
    images = RNG.random((60, 2, 2, 3))
    worst = Mistakes(count=4)
    for part in (slice(0, 25), slice(25, 60)):
        worst.update(images[part], LABELS[part], OUTPUTS[part])
    p = softmax(OUTPUTS)
    wrong = [n for n in range(60) if place(LABELS[n], OUTPUTS[n]) > 0]
    order = sorted(wrong, key=lambda n: (round(p[n, LABELS[n]], 12), n))[:4]
    assert [each.index for each in worst.found] == order
    for each in worst.found:
        n = each.index
        assert (each.label, each.predicted) == (LABELS[n], OUTPUTS[n].argmax())
        assert each.own == pytest.approx(p[n, LABELS[n]])
        assert each.probability == pytest.approx(p[n].max())
        np.testing.assert_array_equal(each.image, images[n])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_plot_shows_images_as_they_were(channels: int, tmp_path: Path):
    # Bright and dark ones, normalized by mean 0.5 and standard deviation 0.25.
    images = np.stack([np.full((4, 4, channels), (v - 0.5) / 0.25) for v in (1, 0)])
    worst = Mistakes()
    worst.update(images, [0, 0], [[0.0, 3.0], [0.0, 2.0]])
    std = [0.25] * channels
    worst.draw(tmp_path / "m.png", ["cat", "a" * 40], [0.5] * channels, std, "all")
    with Image.open(tmp_path / "m.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    middle = pixels[pixels.shape[0] * 2 // 3]
    assert np.mean(middle < 20) > 0.2  # the dark one
    assert np.mean(middle > 235) > 0.2
    worst.draw(tmp_path / "raw.png", ["a", "b"])  # without means
    Mistakes().draw(tmp_path / "none.png", [], title="all right")
    for name in ("raw.png", "none.png"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("name", ["$x^$", "caf\udce9"])
def test_a_name_is_drawn_as_it_is(name: str, tmp_path: Path):
    """No formula, which may be a wrong one, and no bytes that are not text."""
    labels, outputs = np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])
    mistakes = Mistakes(2)
    mistakes.update(np.zeros((2, 4, 4, 1), np.float32), labels, outputs)
    mistakes.draw(tmp_path / "mistakes.png", (name, "b"), title=name)
    reliability_diagram(outputs, labels, tmp_path / "reliability.png", title=name)
    history = [{"epoch": 1, "accuracy": 0.5, "loss": 1.0}]
    history[0] |= {f"test_{key}": history[0][key] for key in ("accuracy", "loss")}
    draw_curves(tmp_path / "curves.png", name, history, "test")
    assert len([*tmp_path.glob("*.png")]) == 3
