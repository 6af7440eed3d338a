"""Data sets: opening, loading, describing, preparing."""

from .._checks import check_size
from .._names import AUGMENTATIONS, CACHES, GIVEN, SPLITS, TFDS_PREFIX
from .._names import DATASETS as NAMES
from .._names import IMAGE_SUFFIXES as SUFFIXES
from .._names import check_dataset as check_name
from ._batches import WHOLE, Share
from ._classified import classified_images, classifies
from ._dataset import WHICH, Dataset, load, open_dataset
from ._prepare import Prepared, prepare
from ._registry import DatasetInfo
from ._source import reading
from .folder._decode import decode
from .folder._overview import Overview, inspect_folder

__all__ = [
    "AUGMENTATIONS",
    "CACHES",
    "GIVEN",
    "NAMES",
    "SPLITS",
    "SUFFIXES",
    "TFDS_PREFIX",
    "WHICH",
    "WHOLE",
    "Dataset",
    "DatasetInfo",
    "Overview",
    "Prepared",
    "Share",
    "check_name",
    "check_size",
    "classified_images",
    "classifies",
    "decode",
    "inspect_folder",
    "load",
    "open_dataset",
    "prepare",
    "reading",
]
