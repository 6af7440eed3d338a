"""The images that a classifier was trained on: metadata, and some to verify on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from ..._errors import InvalidValue
from ..._keras import keras
from ..._names import GIVEN
from ...data import DatasetInfo, open_dataset
from ._metadata import Preprocessing

# As many as a conversion looks at; a limit takes equally many of every class.
VERIFIED_IMAGES = 256


def classified_images(
    model: keras.Model,
    dataset: str | os.PathLike[str] | DatasetInfo,
    input_shape: Sequence[int] | None,
) -> tuple[DatasetInfo, tf.data.Dataset | None]:
    """Returns what a data set says of itself in the size of a model, and test images.

    There are no images of one that is described only.

    Raises:
        ValueError: If the model does not classify images of the data set.
    """
    taken, given = (getattr(model, f"{end}_shape", None) for end in ("input", "output"))
    shape = input_shape or (taken[1:] if isinstance(taken, tuple) else ())
    if isinstance(dataset, DatasetInfo):
        source, info = None, dataset
    else:
        known = len(shape) == 3 and None not in shape and dataset != "imagenet"
        source = open_dataset(dataset, image_size=tuple(shape[:2]) if known else None)
        info = source.info
    classes = given[1:] if isinstance(given, tuple) else given
    if tuple(shape) != tuple(info.image_shape) or classes != (info.classes,):
        raise InvalidValue(
            f"dataset={info.name!r} has {info.classes} classes of images of "
            f"{info.image_shape}, but the model maps {tuple(shape)} to {classes}. Pass "
            "the data set that it was trained on, or labels and preprocessing."
        )
    if source is None:
        return info, None
    return info, source.batches("test", 128, augment=False, limit=VERIFIED_IMAGES)


def dataset_name(info: DatasetInfo) -> str | None:
    """Returns what a file is said to classify; of a folder, its own name alone."""
    return None if info.name == GIVEN else Path(info.name).name


def preprocessing_of(info: DatasetInfo) -> Preprocessing:
    """Returns how an evaluation, and an app, makes an input of an image."""
    return Preprocessing(info.mean, info.std, info.image_shape[:2], info.crop)
