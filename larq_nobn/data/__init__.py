"""Data sets: opening, loading, describing, preparing."""

from ._any_tfds import PREFIX as TFDS_PREFIX
from ._augment import AUGMENTATIONS
from ._batches import WHOLE, Share
from ._dataset import (
    Dataset,
    check_name,
    check_size,
    class_counts,
    content_of,
    describe,
    files_of,
    load,
    open_dataset,
)
from ._prepare import Prepared, prepare
from ._registry import NAMES, SPLITS, DatasetInfo
from ._source import CACHES, reading
from ._user_data import GIVEN, handed_over
from .folder import SUFFIXES, Overview, decode, look_over

__all__ = [
    "AUGMENTATIONS",
    "CACHES",
    "GIVEN",
    "NAMES",
    "SPLITS",
    "SUFFIXES",
    "TFDS_PREFIX",
    "WHOLE",
    "Dataset",
    "DatasetInfo",
    "Overview",
    "Prepared",
    "Share",
    "check_name",
    "check_size",
    "class_counts",
    "content_of",
    "decode",
    "describe",
    "files_of",
    "handed_over",
    "load",
    "look_over",
    "open_dataset",
    "prepare",
    "reading",
]
