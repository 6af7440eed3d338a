"""Looking at what networks make of pictures."""

from ._classes import Seen, check_can_plot, classes_table
from ._predict import predict

__all__ = ["Seen", "classes_table", "predict", "check_can_plot"]
