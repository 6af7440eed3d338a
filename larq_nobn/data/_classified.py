"""The images that a model classifies, in the size that it takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .._errors import InvalidValue
from ._dataset import Dataset, open_dataset
from ._registry import DatasetInfo


def classified_images(
    model: Any,
    dataset: str | os.PathLike[str] | DatasetInfo,
    input_shape: Sequence[int] | None = None,
) -> tuple[DatasetInfo, Dataset | None]:
    """Opens the data set that a Keras model classifies, in the size that it takes.

    Arguments:
        model: The model.
        dataset: As in `open_dataset`, or a description, of which there are no images.
        input_shape: Size of an image where the model leaves it open.

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
            "the data set that it was trained on, or none."
        )
    return info, source
