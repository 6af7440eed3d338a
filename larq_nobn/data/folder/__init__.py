"""Folders of pictures as data sets."""

from ._decode import decode
from ._image import image_of
from ._open import USUAL_SIDE, Folder, is_held_out, open_folder, suitable

__all__ = [
    "USUAL_SIDE",
    "Folder",
    "decode",
    "image_of",
    "is_held_out",
    "open_folder",
    "suitable",
]
