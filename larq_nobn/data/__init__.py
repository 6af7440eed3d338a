"""Data sets: loading, describing, preparing."""

from ._any_tfds import PREFIX as TFDS_PREFIX
from ._kept import CACHES
from ._labels import class_counts, files_of
from ._load import load
from ._open import check_name, check_size, content_of, describe
from ._prepare import Prepared, prepare
from ._registry import NAMES, SPLITS, DatasetInfo
from ._source import reading
from .augment import AUGMENTATIONS
from .folder import SUFFIXES, Overview, decode, look_over
from .given import GIVEN, handed_over

__all__ = [
    "AUGMENTATIONS",
    "CACHES",
    "GIVEN",
    "NAMES",
    "SPLITS",
    "SUFFIXES",
    "TFDS_PREFIX",
    "DatasetInfo",
    "Overview",
    "Prepared",
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
    "prepare",
    "reading",
]
