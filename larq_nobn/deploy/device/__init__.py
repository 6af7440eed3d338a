"""What an app has to know of a file, and how fast the file is."""

from ._metadata import (
    VERIFIED_IMAGES,
    Card,
    Preprocessing,
    preprocessing_of,
    read_card,
)

__all__ = ["VERIFIED_IMAGES", "Card", "Preprocessing", "preprocessing_of", "read_card"]
