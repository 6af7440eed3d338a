"""Data sets: loading, describing, preparing."""

from ._load import load
from ._prepare import Prepared, prepare
from ._registry import NAMES, DatasetInfo, describe

__all__ = ["NAMES", "DatasetInfo", "Prepared", "describe", "load", "prepare"]
