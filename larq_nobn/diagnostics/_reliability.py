from __future__ import annotations

import os
from typing import Any

import numpy as np

from .._checks import check_integer, check_path
from .._figures import COLOURS, DPI, check_plot, drawable, new_figure
from .._files import replacing
from ..population._scores import binned, predictions


def reliability_diagram(
    probabilities: Any,
    labels: Any,
    path: str | os.PathLike,
    bins: int = 15,
    title: str = "",
) -> None:
    """Plots accuracy against confidence.

    For each interval of confidence, a bar shows the accuracy of its predictions, and a
    point their mean confidence. Bars below the diagonal mean that the classifier is
    overconfident. A histogram below shows the fraction of predictions in each interval.
    The heading contains the expected calibration error.

    Arguments:
        probabilities: (N, classes), rows that add up to 1.
        labels: (N,), whole numbers.
        path: File of the plot; ends in .png.
        bins: Number of intervals, 1 or more.
        title: Text before the error in the heading.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError, ValueError: For arguments that differ from this description.

    Example:
        ```python
        import larq_nobn as nobn

        nobn.diagnostics.reliability_diagram(
            [[0.9, 0.1], [0.8, 0.2]], [0, 1], "reliability.png"
        )
        ```

    References:
        - C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural
          Networks", ICML 2017, arXiv:1706.04599.

    Differences from the paper:
        The histogram is an addition.
    """
    target = check_plot(check_path("path", path))
    check_integer("bins", bins, 1, "15 is usual.")
    calibration = binned(*predictions(probabilities, labels), bins)
    figure = new_figure(target, (3.4, 4.2))
    error = f"calibration error {calibration.error():.3f}"
    figure.suptitle(drawable(f"{title}: {error}" if title else error))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    starts = np.arange(bins) / bins
    bars = {"width": 1 / bins, "align": "edge", "edgecolor": "white"}
    above.bar(starts, calibration.accuracy, color=COLOURS[0], label="accuracy", **bars)
    above.plot([0, 1], [0, 1], "--", color="black", linewidth=1)
    filled = calibration.fraction > 0
    above.plot(
        starts[filled] + 0.5 / bins,
        calibration.confidence[filled],
        "o",
        color=COLOURS[1],
        label="confidence",
    )
    above.set_ylabel("accuracy")
    above.legend(loc="upper left")
    below.bar(starts, 100 * calibration.fraction, color="#999999", **bars)
    below.set_ylabel("predictions, %")
    below.set_xlabel("confidence")
    below.set_xlim(0, 1)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI)
