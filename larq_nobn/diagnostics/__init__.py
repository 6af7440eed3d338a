"""What a trained network tells about itself."""

from ._alignment import ClassCenterAlignment
from ._class_centers import class_center_alignment

__all__ = ["ClassCenterAlignment", "class_center_alignment"]
