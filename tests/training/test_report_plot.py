"""The image of runs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn.training import Comparison, Outcome, RunSettings
from larq_nobn.training._report import COLOURS, draw_groups
from larq_nobn.training._run_folder import plain
from matplotlib.figure import Figure

CURVES = np.array([[0.1, 0.7, 0.4], [0.2, 0.5, 0.6], [0.6, 0.6, 0.8]])
PLAIN = RunSettings("plain", dataset="digits", epochs=3)


def outcomes(settings: RunSettings, curves: np.ndarray = CURVES) -> list[Outcome]:
    return [
        Outcome(
            f"run-{seed}",
            plain(replace(settings, seed=seed)),
            {"test_accuracy": curve[-1]},
            [
                {"epoch": epoch, "test_accuracy": value, "seconds": 1.0}
                for epoch, value in enumerate(curve, 1)
            ],
        )
        for seed, curve in enumerate(curves)
    ]


def of(normalization: str, batch_size: int) -> RunSettings:
    return replace(PLAIN, normalization=normalization, batch_size=batch_size)


def drawn(comparison: Comparison) -> Figure:
    figure = Figure(figsize=(3.1, 2.9), layout="constrained")
    draw_groups(figure, "title", comparison.compared, comparison.groups)
    figure.draw_without_rendering()
    return figure


def test_a_mean_line_in_a_band_from_lowest_to_highest():
    axes = drawn(Comparison(outcomes(PLAIN))).axes[0]
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["nobn"]
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), 100 * CURVES.mean(0))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for epoch, values in enumerate(CURVES.T, 1):
        heights = corners[corners[:, 0] == epoch][:, 1]
        np.testing.assert_allclose(heights.min(), 100 * values.min())
        np.testing.assert_allclose(heights.max(), 100 * values.max())


def test_a_line_says_all_that_is_compared():
    cells = [of(name, size) for size in (2, 8) for name in ("batch_norm", "nobn")]
    figure = drawn(Comparison([each for cell in cells for each in outcomes(cell)]))
    (legend,), (axes,) = figure.legends, figure.axes
    assert [line.get_color() for line in axes.lines] == [*COLOURS[:4]]
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{name}\nbatch size {size}"
        for size in (2, 8)
        for name in ("batch_norm", "nobn")
    ]


def test_what_has_no_result_is_not_drawn(tmp_path: Path):
    failed = Outcome("run-9", plain(of("none", 2)), failure="It diverged.")
    Comparison([failed, *outcomes(PLAIN)]).draw(tmp_path / "runs.png")
    assert (tmp_path / "runs.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="No run has a result to draw"):
        Comparison([failed]).draw(tmp_path / "none.png")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.png"]


def test_a_failed_run_is_worse_than_any_other(tmp_path: Path):
    poor = outcomes(replace(PLAIN, learning_rate=0.1), CURVES / 9)
    torn = outcomes(replace(PLAIN, learning_rate=0.2))
    torn[1] = replace(torn[1], failure="It diverged.")
    best = [g for g in Comparison(torn + poor, ["normalization"]).groups if g.best]
    assert [group.settings["learning_rate"] for group in best] == [0.1]
