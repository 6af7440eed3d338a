"""The image of runs side by side."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn._figures import DPI
from larq_nobn.training import Comparison, Outcome, RunSettings
from larq_nobn.training.comparison._report import COLOURS, draw_groups, plain_settings
from larq_nobn.training.folder import _run_folder
from matplotlib.figure import Figure
from matplotlib.image import imread

# Other tests of a process may go without.
DRAW_CURVES = _run_folder.draw_curves
CURVES = np.array([[0.1, 0.7, 0.4], [0.2, 0.5, 0.6], [0.6, 0.6, 0.8]])
PLAIN = RunSettings(dataset="digits", epochs=3)


def outcomes(settings: RunSettings, curves: np.ndarray = CURVES) -> list[Outcome]:
    return [
        Outcome(
            f"run-{seed}",
            plain_settings(replace(settings, seed=seed)),
            {"val_accuracy": curve[-1]},
            [
                {"epoch": epoch, "val_accuracy": value, "seconds": 1.0}
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


def test_a_recipe_of_the_same_name_is_not_said_twice():
    cells = [replace(of(name, 8), recipe=name) for name in ("batch_norm", "nobn")]
    cells = [replace(cell, dataset="/of/some/one/photos") for cell in cells]
    comparison = Comparison([each for cell in cells for each in outcomes(cell)])
    (legend,) = drawn(comparison).legends
    assert [text.get_text() for text in legend.get_texts()] == ["batch_norm", "nobn"]
    assert comparison._title().startswith("ReActNet18, photos, ")


@pytest.mark.parametrize("first, scale", [(300, "log"), (3, "linear")])
def test_a_large_first_loss_hides_no_other(
    first: int, scale: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    figure = Figure(layout="constrained")
    monkeypatch.setattr(_run_folder, "new_figure", lambda *_: figure)
    row = dict(accuracy=0.01, val_accuracy=0.9, val_loss=2.5)
    history = [dict(row, epoch=n, loss=loss) for n, loss in enumerate([first, 2], 1)]
    DRAW_CURVES(tmp_path / "curves.png", "title", history, "test")
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", scale]


def test_more_lines_than_colours_are_dashed():
    cells = [replace(PLAIN, width=width) for width in range(1, 10)]
    (axes,) = drawn(Comparison([e for cell in cells for e in outcomes(cell)])).axes
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    assert len(set(looks)) == 9
    # A single epoch is a point without a line.
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 9
    assert len({colour for colour, _ in looks}) == len(COLOURS)


def test_a_legend_is_not_cut_off_and_covers_nothing(tmp_path: Path):
    cells = [
        replace(PLAIN, width=width, clip_factor=width / 1000, temperature=width / 100)
        for width in range(1, 31)
    ]
    comparison = Comparison([each for cell in cells for each in outcomes(cell)])
    figure = drawn(comparison)
    (legend,), (axes,) = figure.legends, figure.axes
    assert len(legend.get_texts()) == 30  # of three lines each
    frame = legend.get_window_extent()
    assert not frame.overlaps(figure._suptitle.get_window_extent())
    assert not frame.overlaps(axes.get_window_extent())
    comparison.draw(tmp_path / "runs.png")
    height, width, _ = imread(tmp_path / "runs.png").shape
    # In inches; letters are as large but for the rounding of pixels.
    assert height / DPI > 0.99 * frame.height / figure.dpi
    assert width / DPI > (frame.width + axes.get_window_extent().width) / figure.dpi


def luminance_and_hues(colour: str) -> np.ndarray:
    """What someone without red cones sees: Viénot and others, 1999, in linear RGB."""
    codes = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = np.array(codes) ** 2.2
    seen = np.array(
        [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
    )
    return (seen @ linear) ** (1 / 2.2)


def test_colours_differ_for_colour_blind_readers_too():
    seen = [luminance_and_hues(colour) for colour in COLOURS]
    apart = [
        np.abs(one - other).max() for one, other in itertools.combinations(seen, 2)
    ]
    assert min(apart) > 0.08


def test_what_has_no_result_is_not_drawn(tmp_path: Path):
    failed = Outcome("run-9", plain_settings(of("none", 2)), failure="It diverged.")
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


def test_names_and_places_that_are_none(tmp_path: Path):
    comparison = Comparison(outcomes(PLAIN))
    with pytest.raises(ValueError, match=r"runs\.jpg is not a name for a plot"):
        comparison.draw(tmp_path / "runs.jpg")
    with pytest.raises(OSError, match="cannot be written"):
        comparison.draw(tmp_path / "nowhere" / "runs.png")
