"""Data sets: loading, describing, preparing."""

from ._load import load
from ._prepare import Prepared, prepare
from ._registry import DatasetInfo, describe

__all__ = ["DatasetInfo", "Prepared", "describe", "load", "prepare"]
