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
    taken, classes = _shapes(model)
    shape = input_shape or taken
    if isinstance(dataset, DatasetInfo):
        source, info = None, dataset
    else:
        known = len(shape) == 3 and None not in shape and dataset != "imagenet"
        source = open_dataset(dataset, image_size=tuple(shape[:2]) if known else None)
        info = source.info
    if not classifies(model, info, shape):
        raise InvalidValue(
            f"dataset={info.name!r} has {info.classes} classes of images of "
            f"{info.image_shape}, but the model maps {tuple(shape)} to {classes}. Pass "
            "the data set that it was trained on, or none."
        )
    return info, source


def classifies(
    model: Any, info: DatasetInfo, input_shape: Sequence[int] | None = None
) -> bool:
    """Whether a Keras model maps images of a data set to its classes."""
    taken, classes = _shapes(model)
    shape = tuple(input_shape or taken)
    return (shape, classes) == (tuple(info.image_shape), (info.classes,))


def _shapes(model: Any) -> tuple[tuple, tuple]:
    """Input and output of one example; empty where unknown, or of several."""
    shapes = (getattr(model, f"{end}_shape", None) for end in ("input", "output"))
    taken, given = (x[1:] if isinstance(x, tuple) else () for x in shapes)
    return taken, given
