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
from ._overview import Overview, inspect_folder

__all__ = [
    "USUAL_SIDE",
    "Folder",
    "Overview",
    "decode",
    "image_of",
    "inspect_folder",
    "is_for_validation",
    "is_held_out",
    "open_folder",
    "suitable",
]
