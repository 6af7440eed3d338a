"""Metadata that an app needs to use a file, and how fast files are."""

from ._metadata import VERIFIED_IMAGES, Card, Preprocessing, preprocessing_of, read_card

__all__ = ["VERIFIED_IMAGES", "Card", "Preprocessing", "preprocessing_of", "read_card"]
