"""Where the images of a data set come from, and those that are in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from .._checks import check_bounds
from .._names import GIVEN
from ._area import scaled
from ._registry import DatasetInfo, built_in
from ._source import Arrays, Source, statistics, validation_numbers
from ._tfds import check_labels, prepared_builder, reading_records

Shape = tuple[int, int, int]
_Made = TypeVar("_Made")
_KEPT = 12
_opened: dict[Hashable, Any] = {}


def once(
    key: Hashable, make: Callable[[], _Made], kept: dict[Hashable, Any] = _opened
) -> _Made:
    """Returns what was made for a key, of the last few; else makes it.

    Arguments:
        key: All that it depends on.
        make: Makes it.
        kept: Where it is looked for; by default among what the process has opened.
    """
    if key in kept:
        return kept[key]
    made = kept[key] = make()
    while len(kept) > _KEPT:
        del kept[next(iter(kept))]
    return made


class Images:
    """Images in splits, each of which is read once.

    Attributes:
        name: What a message calls them.
        class_names: One name per class, in the order of the labels.
        numbered: Whether an image is found by its number.
    """

    name: str
    class_names: tuple[str, ...]
    numbered = True

    @functools.cached_property
    def _found(self) -> dict[Hashable, Any]:
        return {}

    def shape(self, size: tuple[int, int] | None) -> Shape:
        """Height, width and channels; without a size, those that suit the images."""
        raise NotImplementedError

    def count(self, split: str, shape: Shape) -> int:
        """Number of images in a split."""
        raise NotImplementedError

    def read(self, split: str, shape: Shape, crop: float) -> Source:
        """The images of a split: bytes to train with, exact means to test with."""
        raise NotImplementedError

    def statistics(self, shape: Shape) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the training images; empty if not known."""
        return statistics(self.source("train", shape))

    def source(self, split: str, shape: Shape, crop: float = 1.0) -> Source:
        """The same as `read`; the second call returns the same images."""
        return once(
            (split, shape, crop), lambda: self.read(split, shape, crop), self._found
        )

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What `describe` says."""
        shape = self.shape(size)
        mean, std = once(shape, lambda: self.statistics(shape), self._found)
        return DatasetInfo(
            name=self.name,
            image_shape=shape,
            classes=len(self.class_names),
            class_names=self.class_names,
            train_examples=self.count("train", shape),
            test_examples=self.count("test", shape),
            mean=mean,
            std=std,
            validation_examples=self.count("validation", shape),
        )


class InMemory(Images):
    """Images in memory, of whose training images a fraction may be for validation."""

    validation: float

    def whole(self, split: str) -> Arrays:
        """A split as it is stored."""
        raise NotImplementedError

    def part(self, split: str) -> Arrays:
        """A split as it is used, in its own shape."""
        if not self.validation or split == "test":
            return once(split, lambda: self.whole(split), self._found)
        parts = once("train", self._divided, self._found)
        return parts[split == "validation"]

    def _divided(self) -> tuple[Arrays, Arrays]:
        whole = self.whole("train")
        numbers = validation_numbers(len(whole.labels), self.validation)
        with tf.device("CPU:0"):
            first, second = (
                Arrays(tf.gather(whole.images, n), tf.gather(whole.labels, n))
                for n in numbers
            )
        return first, second

    def read(self, split: str, shape: Shape, crop: float) -> Arrays:
        part = self.part(split)
        if part.images.shape[1:] == shape and crop == 1:
            return part
        images = scaled(part.images.numpy(), shape[:2], shape[2], crop)
        if split == "train":
            images = np.rint(images).astype(np.uint8)
        with tf.device("CPU:0"):
            return Arrays(tf.constant(images), part.labels)


class BuiltIn(InMemory):
    """One of `NAMES` but ImageNet."""

    def __init__(self, name: str, data_dir: str | None, validation: float) -> None:
        self.name, self.class_names = name, built_in(name).class_names
        self.data_dir, self.validation = data_dir, validation

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What the registry says; nothing is read for it."""
        found = built_in(self.name)
        if self.validation:
            parts = validation_numbers(found.train_examples, self.validation)
            train, held = map(len, parts)
            found = replace(found, train_examples=train, validation_examples=held)
        if size is None:
            return found
        return replace(found, image_shape=(*size, found.image_shape[2]))

    def whole(self, split: str) -> Arrays:
        # On the host even if there is a GPU: batches are cut there, and only they
        # travel.
        with tf.device("CPU:0"):
            if self.name == "digits":
                images, labels = _digits(split)
                return Arrays(tf.constant(images), tf.constant(labels))
            builder = prepared_builder(self.name, self.data_dir)
            # Files in their order on disk, so that an example keeps its index.
            with reading_records(self.name, builder.data_dir):
                found = builder.as_dataset(
                    split=split, batch_size=-1, shuffle_files=False
                )
                check_labels(found["label"].numpy(), len(self.class_names))
                return Arrays(found["image"], found["label"])


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Every fifth example of each class is for testing, the others for training.

    The set lists its writers one after the other, so both parts see all of them.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as problem:
        raise ImportError(
            f"digits comes with scikit-learn ({problem}). Install it with: "
            "pip install 'larq-nobn[data]'"
        ) from problem
    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    chosen = (_rank_in_class(labels) % 5 == 4) == (split == "test")
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # given as 0 to 16
    return grey[chosen][..., np.newaxis], labels[chosen]


def balanced_subset(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Returns the indices of the first examples of each class, in rising order.

    Arguments:
        labels: (N,) integers.
        limit: How many to take; classes differ by at most one example as long as all
            have enough. None takes all.
    """
    if limit is None:
        return np.arange(len(labels))
    limit = int(check_bounds("limit", limit))
    order = np.lexsort((labels, _rank_in_class(labels)))
    return np.sort(order[:limit])


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """How many earlier examples have the same label."""
    rank = np.empty_like(labels)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        rank[places] = np.arange(len(places))
    return rank


class Given(InMemory):
    """Arrays of a caller: bytes, or floats that are taken as they are.

    Arguments:
        parts: `train`, `test`, and `validation` if there is one: images (N, height,
            width, channels) or (N, height, width), and labels.
        validation: Fraction of the training images that are for validation.
    """

    name = GIVEN

    def __init__(self, parts: dict[str, Any], validation: float) -> None:
        self._given = {split: _arrays(split, part) for split, part in parts.items()}
        self.validation = validation
        train = self._given["train"].images
        for split, part in self._given.items():
            images = part.images
            if images.shape[1:] != train.shape[1:] or images.dtype != train.dtype:
                raise ValueError(
                    f"data contains training images of {train.shape[1:]} and "
                    f"{train.dtype.name}, and {split} images of {images.shape[1:]} and "
                    f"{images.dtype.name}. Give both the same."
                )
        if validation and "validation" in parts:
            raise ValueError(
                f"data contains a validation split, so validation={validation} does "
                "not apply. Leave it out."
            )
        self.class_names = names_of(p.labels.numpy() for p in self._given.values())
        self._normalized = train.dtype.is_floating

    def whole(self, split: str) -> Arrays:
        return self._given[split]

    def shape(self, size: tuple[int, int] | None) -> Shape:
        height, width, channels = self._given["train"].images.shape[1:]
        return (*(size or (height, width)), channels)

    def count(self, split: str, shape: Shape) -> int:
        known = self.validation or split in self._given
        return len(self.part(split).labels) if known else 0

    def statistics(self, shape: Shape) -> tuple[tuple[float, ...], tuple[float, ...]]:
        # Of what was normalized elsewhere nothing is known.
        return ((), ()) if self._normalized else super().statistics(shape)

    def read(self, split: str, shape: Shape, crop: float) -> Arrays:
        if not self._normalized:
            return super().read(split, shape, crop)
        if self.part(split).images.shape[1:] != shape:
            raise ValueError(
                f"image_size={shape[:2]} does not apply to images of floats. Give them "
                "in this size, or as bytes."
            )
        return self.part(split)


def names_of(labels: Any) -> tuple[str, ...]:
    """Returns the numbers of the classes as names, if there are enough.

    Arguments:
        labels: Arrays of them.
    """
    classes = 1 + max(int(each.max()) for each in labels)
    if classes < 2:
        raise ValueError(
            "data contains labels of one class only, but a classifier needs two or "
            "more."
        )
    return tuple(map(str, range(classes)))


def _arrays(split: str, part: Any) -> Arrays:
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        raise TypeError(
            f"data contains {type(part).__name__} for the {split} images. Give "
            "(images, labels)."
        )
    images, labels = (np.asarray(each) for each in part)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"data contains {split} images of shape {images.shape} and labels of shape "
            f"{labels.shape}. Give (N, height, width, channels) and (N,)."
        )
    if not len(images):
        raise ValueError(f"data contains no {split} images. Give some.")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise TypeError(
                f"data contains {split} images of {images.dtype}. Give bytes (uint8), "
                "or floats that need no more preparation."
            )
        images = images.astype(np.float32)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(
            f"data contains {split} labels of {labels.dtype}, the least being "
            f"{labels.min()}. Give whole numbers from 0."
        )
    with tf.device("CPU:0"):
        return Arrays(tf.constant(images), tf.constant(labels.astype(np.int64)))
