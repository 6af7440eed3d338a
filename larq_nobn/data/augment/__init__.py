"""Random variations of training images."""

from ._augmentation import AUGMENTATIONS, Augmentation, draw
from ._crop import crop_and_flip
from ._mixup import mixed, shares
from ._varied import usual, variation_of, varied

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "crop_and_flip",
    "draw",
    "mixed",
    "shares",
    "usual",
    "varied",
    "variation_of",
]
