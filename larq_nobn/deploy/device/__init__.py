"""What an app has to know of a file, and how fast the file is."""

from ._metadata import VERIFIED_IMAGES, preprocessing_of

__all__ = ["VERIFIED_IMAGES", "preprocessing_of"]
