"""What a trained network tells about itself."""

from .._calibration_error import expected_calibration_error
from ._alignment import ClassCenterAlignment
from ._class_centers import class_center_alignment
from ._confusion import ConfusionMatrix
from ._mistakes import Mistake, Mistakes
from ._reliability import reliability_diagram
from ._sampling import SampledPredictions, sampled_predictions

__all__ = [
    "ClassCenterAlignment",
    "ConfusionMatrix",
    "Mistake",
    "Mistakes",
    "SampledPredictions",
    "class_center_alignment",
    "expected_calibration_error",
    "reliability_diagram",
    "sampled_predictions",
]
