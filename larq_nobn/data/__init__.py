"""Data sets: opening, loading, describing, preparing."""

from .._names import DATASETS as NAMES
from .._names import SPLITS
from ._dataset import (
    WHICH,
    Dataset,
    batches_of,
    classified_images,
    classifies,
    load,
    open_dataset,
)
from ._epochs import WHOLE, Share
from ._registry import DatasetInfo
from ._source import reading
from ._tfds import Prepared, prepare
from .folder._decode import decode
from .folder._overview import Overview, inspect_folder

__all__ = [
    "NAMES",
    "SPLITS",
    "WHICH",
    "WHOLE",
    "Dataset",
    "DatasetInfo",
    "Overview",
    "Prepared",
    "Share",
    "batches_of",
    "classified_images",
    "classifies",
    "decode",
    "inspect_folder",
    "load",
    "open_dataset",
    "prepare",
    "reading",
]
