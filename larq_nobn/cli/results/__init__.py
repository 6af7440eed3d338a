"""Looking at what networks make of pictures."""

from ._classes import Seen, classes_table
from ._predict import predict

__all__ = ["Seen", "classes_table", "predict"]
