"""Which examples are used, and which class each is of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from ._arrays import balanced_subset
from ._kept import kept
from ._open import Dataset, ImageNet, Size, check_size, open_dataset
from ._registry import DatasetInfo
from ._source import Source
from ._tfds import DataDir
from .folder import Folder
from .given import Streams


def labelled(
    dataset: Dataset, split: str, info: DatasetInfo, cache: str = "auto"
) -> Source:
    """The images of a split, as another data set has them.

    Arguments:
        dataset: Where they are.
        split: Which ones.
        info: The other data set, or the same.
        cache: Where those of a folder are kept.

    Raises:
        ValueError: If it has a class that the other one does not know.
    """
    source = dataset.source(split, info.image_shape, info.crop)
    if isinstance(dataset, Folder):
        source = kept(source, cache)
    ours, theirs = dataset.class_names, info.class_names
    if ours == theirs or not ours or not theirs:
        return source
    there = sorted({ours[label] for label in source.labels.numpy()})
    if unknown := [name for name in there if name not in theirs]:
        raise ValueError(
            f"The images are of {len(unknown)} classes that are not among those of "
            f"{info.name}: {_some(unknown)}, where it knows {_some(theirs)}. Choose "
            "images of these."
        )
    places = [theirs.index(name) if name in theirs else -1 for name in ours]
    return replace(
        source, labels=tf.gather(tf.constant(places, tf.int64), source.labels)
    )


def class_counts(
    name: str | os.PathLike[str],
    *,
    image_size: Size = None,
    limit: int | None = None,
    holdout: float = 0.1,
    skip_unreadable: bool = False,
    data_dir: DataDir = None,
    validation: float = 0.0,
) -> tuple[int, ...]:
    """Counts the training images of each class.

    Arguments:
        name: As in `load`, but `"imagenet"`.
        image_size: As in `load`: no count depends on it, but what is read for one size
            is not read again.
        limit: As in `load`.
        holdout: As in `load`.
        skip_unreadable: As in `load`.
        data_dir: As in `load`.
        validation: As in `load`.

    Returns:
        One number per class, in the order of the labels.

    Raises:
        TypeError, ValueError: As `load` does, and for images that are not counted.
        FileNotFoundError: As `load` does.

    Example:
        >>> nobn.data.class_counts("digits", limit=25)
        (3, 3, 3, 3, 3, 2, 2, 2, 2, 2)
    """
    dataset = open_dataset(name, holdout, skip_unreadable, data_dir, validation)
    if isinstance(dataset, (ImageNet, Streams)):
        raise ValueError(
            f"The classes of {name} are not counted, because that would need a pass "
            "over all images. Leave it out."
        )
    info = dataset.info(check_size(image_size))
    data = dataset.source("train", info.image_shape)
    labels = data.labels.numpy()[chosen_of(data, limit)]
    return tuple(np.bincount(labels, minlength=info.classes).tolist())


def files_of(
    name: str | os.PathLike[str],
    split: str,
    *,
    image_size: Size = None,
    limit: int | None = None,
    holdout: float = 0.1,
    skip_unreadable: bool = False,
    like: DatasetInfo | None = None,
    data_dir: DataDir = None,
    validation: float = 0.0,
) -> tuple[str, ...] | None:
    """Names the files of a folder's images, in the order in which `load` tests.

    Arguments:
        name: As in `load`, as all others.
        split: As in `load`.
        image_size: As in `load`.
        limit: As in `load`.
        holdout: As in `load`.
        skip_unreadable: As in `load`.
        like: As in `load`.
        data_dir: As in `load`.
        validation: As in `load`.

    Returns:
        Their paths; None for what is no folder of pictures.

    Raises:
        FileNotFoundError, TypeError, ValueError: As `load` does.

    Example:
        >>> nobn.data.files_of("digits", "test")
    """
    dataset = open_dataset(name, holdout, skip_unreadable, data_dir, validation)
    if not isinstance(dataset, Folder):
        return None
    info = like or dataset.info(check_size(image_size))
    chosen = chosen_of(labelled(dataset, split, info), limit)
    part = dataset.part(split)
    return tuple(str(dataset.root / part[index].entry.path) for index in chosen)


def chosen_of(data: Source, limit: int | None) -> np.ndarray:
    """Indices of at most so many examples, alike of all classes."""
    if limit is None:
        return np.arange(len(data.labels))
    return balanced_subset(data.labels.numpy(), limit)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
