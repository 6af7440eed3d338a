"""Metadata that an app needs to use a file, and how fast files are."""

from ._benchmark import is_keras_file
from ._metadata import (
    VERIFIED_IMAGES,
    Card,
    Preprocessing,
    preprocessing_of,
    read_card,
)

__all__ = [
    "VERIFIED_IMAGES",
    "Card",
    "Preprocessing",
    "is_keras_file",
    "preprocessing_of",
    "read_card",
]
