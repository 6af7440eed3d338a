"""Plots and measures of the predictions of trained networks."""

from ..population._scores import expected_calibration_error
from ._confusion import ConfusionMatrix
from ._mistakes import Mistake, Mistakes
from ._reliability import reliability_diagram
from ._sampling import SampledPredictions, sampled_predictions

__all__ = [
    "ConfusionMatrix",
    "Mistake",
    "Mistakes",
    "SampledPredictions",
    "expected_calibration_error",
    "reliability_diagram",
    "sampled_predictions",
]
