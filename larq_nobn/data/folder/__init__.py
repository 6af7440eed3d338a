"""Folders of images as data sets."""

from ._decode import decode, image_of
from ._folder import (
    USUAL_SIDE,
    Folder,
    is_for_validation,
    is_held_out,
    open_folder,
    suitable,
)
from ._overview import Overview, look_over

__all__ = [
    "USUAL_SIDE",
    "Folder",
    "Overview",
    "decode",
    "image_of",
    "is_for_validation",
    "is_held_out",
    "look_over",
    "open_folder",
    "suitable",
]
