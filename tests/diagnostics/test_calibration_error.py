"""The expected calibration error against a loop, and its image."""

import numpy as np
import pytest
from larq_nobn.diagnostics import expected_calibration_error, reliability_diagram
from larq_nobn.population._scores import binned
from sklearn.calibration import calibration_curve

RNG = np.random.default_rng(0)
POWERS = np.exp(RNG.normal(size=(500, 4)))
PROBABILITIES = POWERS / POWERS.sum(1, keepdims=True)
LABELS = RNG.integers(0, 4, 500)


def by_hand(probabilities, labels, bins):
    """The definition as loops."""
    total = 0.0
    for k in range(bins):
        low, high = k / bins, (k + 1) / bins
        inside = [
            (max(p), float(np.argmax(p) == y))
            for p, y in zip(probabilities, labels, strict=True)
            if low < max(p) <= high
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(right - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 15, 100])
def test_the_definition(bins):
    actual = expected_calibration_error(PROBABILITIES, LABELS, bins)
    assert actual == pytest.approx(by_hand(PROBABILITIES, LABELS, bins), rel=1e-9)


def test_scikit_learn_has_the_same_bins():
    sure, right = PROBABILITIES.max(1), PROBABILITIES.argmax(1) == LABELS
    actual = binned(sure, right, 15)
    accuracy, confidence = calibration_curve(right, sure, n_bins=15)
    filled = actual.fraction > 0
    np.testing.assert_allclose(actual.accuracy[filled], accuracy)
    np.testing.assert_allclose(actual.confidence[filled], confidence)


def test_numbers_by_hand():
    # Of those that say 0.9 half are right, the one that says 0.6 is not.
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]
    actual = expected_calibration_error(probabilities, [0, 1, 0], 10)
    assert actual == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.6)
    assert expected_calibration_error([[1.0, 0.0]], [0]) == 0
    assert expected_calibration_error([[1.0, 0.0]], [1]) == 1
    # Who is right as often as said has none.
    sure = np.array([[0.75, 0.25]] * 4)
    assert expected_calibration_error(sure, [0, 0, 0, 1]) == pytest.approx(0)


def test_the_plot_shows_the_bins(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    sure = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]
    reliability_diagram(sure, [0, 1, 0], tmp_path / "a.png", bins=5, title="digits")
    (figure,) = drawn
    assert figure.get_suptitle() == "digits: calibration error 0.467"
    above, below = figure.axes
    assert [bar.get_height() for bar in above.patches] == [0, 0, 0, 0, 0.5]
    heights = [bar.get_height() for bar in below.patches]
    assert heights == pytest.approx([0, 0, 100 / 3, 0, 200 / 3])
    (points,) = (line for line in above.lines if line.get_label() == "confidence")
    np.testing.assert_allclose(points.get_data(), [[0.5, 0.9], [0.6, 0.9]])


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([[0.5, 0.5]], [0, 1]), ValueError, r"shape \(1, 2\) and .* \(2,\) do not"),
        (([[2.0, 1.0]], [0]), ValueError, "range from 1 to 2 and .* Pass the softmax"),
        (([[0.5, 0.5]], [2]), ValueError, "range from 2 to 2, but .* below 2"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        expected_calibration_error(*arguments)
