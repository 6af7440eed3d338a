"""Looking at what networks make of pictures."""

from ._classes import Seen, classes_table, refuse_undrawable
from ._predict import predict

__all__ = ["Seen", "classes_table", "predict", "refuse_undrawable"]
