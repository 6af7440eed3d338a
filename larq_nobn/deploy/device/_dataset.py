"""What metadata say of the images that a classifier was trained on."""

from __future__ import annotations

from pathlib import Path

from ..._names import GIVEN
from ...data import DatasetInfo
from ._metadata import Preprocessing

# As many as a conversion looks at; a limit takes equally many of every class.
VERIFIED_IMAGES = 256


def dataset_name(info: DatasetInfo) -> str | None:
    """Returns what a file is said to classify; of a folder, its own name alone."""
    return None if info.name == GIVEN else Path(info.name).name


def preprocessing_of(info: DatasetInfo) -> Preprocessing:
    """Returns how an evaluation, and an app, makes an input of an image."""
    return Preprocessing(info.mean, info.std, info.image_shape[:2], info.crop)
