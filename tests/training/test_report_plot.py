"""The image of runs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn.training import Comparison, Outcome, RunSettings
from larq_nobn.training._comparison import COLOURS, draw_groups
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
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["normalization", "nobn"]
    line = axes.lines[0]
    assert [text.get_text() for text in axes.texts] == [
        f"{100 * CURVES.mean(0)[-1]:.1f}"
    ]
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), 100 * CURVES.mean(0))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for epoch, values in enumerate(CURVES.T, 1):
        heights = corners[corners[:, 0] == epoch][:, 1]
        np.testing.assert_allclose(heights.min(), 100 * values.min())
        np.testing.assert_allclose(heights.max(), 100 * values.max())


def test_colors_are_methods_and_dashes_batch_sizes():
    """The legend has a column for each, without repetition."""
    names, sizes = ("batch_norm", "none", "nobn"), (2, 8)
    cells = [of(name, size) for size in sizes for name in names]
    scaled = [CURVES * (1 - 0.001 * number) for number in range(6)]
    runs = [outcomes(*each) for each in zip(cells, scaled, strict=True)]
    figure = drawn(Comparison(sum(runs, [])))
    (legend,), (axes,) = figure.legends, figure.axes
    curves = [line for line in axes.lines if len(line.get_xdata())]
    assert [line.get_color() for line in curves] == [*COLOURS[:3]] * 2
    assert [line.get_linestyle() for line in curves] == ["-"] * 3 + ["--"] * 3
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["normalization", *names, "batch size", "2", "8", ""]
    assert legend._ncols == 2
    # The last values in their colors, from the lowest to the highest and apart.
    places = [text.xy[1] for text in axes.texts]
    values = sorted(100 * each.mean(0)[-1] for each in scaled)
    assert [text.get_text() for text in axes.texts] == [f"{v:.1f}" for v in values]
    assert np.diff(places).min() > 0.05 * np.ptp(axes.get_ylim())


def test_batch_sizes_alone_are_dashes_of_one_color():
    cells = [of("nobn", size) for size in (2, 8)]
    figure = drawn(Comparison(sum(map(outcomes, cells), [])))
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["normalization", "nobn", "", "batch size", "2", "8"]
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert len({line.get_color() for line in curves}) == 1


def test_what_has_no_result_is_not_drawn(tmp_path: Path):
    failed = Outcome("run-9", plain(of("none", 2)), failure="It diverged.")
    Comparison([failed, *outcomes(PLAIN)]).draw(tmp_path / "runs.png")
    assert (tmp_path / "runs.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="No run has a result to plot"):
        Comparison([failed]).draw(tmp_path / "none.png")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.png"]


def test_a_failed_run_is_worse_than_any_other(tmp_path: Path):
    poor = outcomes(replace(PLAIN, learning_rate=0.1), CURVES / 9)
    torn = outcomes(replace(PLAIN, learning_rate=0.2))
    torn[1] = replace(torn[1], failure="It diverged.")
    best = [g for g in Comparison(torn + poor, ["normalization"]).groups if g.best]
    assert [group.settings["learning_rate"] for group in best] == [0.1]


def test_tables_of_100_columns_break_no_word():
    """With intervals of few test images, and of the mean of the seeds."""
    names = ("independent_component", "filter_response", "nobn")
    runs = [
        replace(
            run,
            metrics={"test_accuracy": 19 / 35, "test_loss": 10.5},
            examples=examples,
            failure="It diverged." if examples == 9 else None,
        )
        for name in names
        for size, examples in ((4096, 35), (2, 9))
        for run in outcomes(of(name, size))
    ]
    comparison = Comparison(runs)
    text = str(comparison)
    assert max(map(len, text.splitlines())) <= 100
    for word in (*names, "normalization", "accuracy", "seconds", "4096"):
        assert word in text
    # Wilson's interval from 38.2 to 69.5 %.
    assert "54.3 (54.3 to 54.3)" in text and " 15.7 " in text
    interval = comparison.to_dict()["groups"][0]["test_accuracy_interval"]
    np.testing.assert_allclose(interval, (0.3819, 0.6953), atol=1e-4)
