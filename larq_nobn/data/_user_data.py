"""Images that a caller passes as arrays or as `tf.data`, in place of a data set."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import tensorflow as tf

from .._names import GIVEN
from ._batches import Share, cut, prefetched
from ._registry import DatasetInfo
from ._source import Arrays, of_shape, part_of, statistics, validation_numbers


def class_names_of(classes: int) -> tuple[str, ...]:
    """Their numbers, if there are enough."""
    if classes < 2:
        raise ValueError(
            "data holds labels of one class only, but a classifier needs two or more."
        )
    return tuple(map(str, range(classes)))


class Given:
    """Arrays of images: bytes, or floats that are taken as they are.

    Arguments:
        **parts: `train`, `test`, and `validation` if there is one: images (N, height,
            width, channels) or (N, height, width), and labels.
    """

    name = GIVEN

    def __init__(self, **parts: Any) -> None:
        self._parts = {split: _arrays(split, part) for split, part in parts.items()}
        train = self._parts["train"].images
        for split, part in self._parts.items():
            images = part.images
            if images.shape[1:] != train.shape[1:] or images.dtype != train.dtype:
                raise ValueError(
                    f"data contains training images of {train.shape[1:]} and "
                    f"{train.dtype.name}, and {split} images of {images.shape[1:]} and "
                    f"{images.dtype.name}. Give both the same."
                )
        classes = 1 + max(int(p.labels.numpy().max()) for p in self._parts.values())
        self.class_names = class_names_of(classes)
        # What is found out once, however often it is asked for.
        self._resized: dict[tuple[str, tuple[int, int, int], float], Arrays] = {}
        self._statistics: dict[tuple[int, int, int], tuple[tuple, tuple]] = {}
        self._divided: dict[float, Given] = {}

    def with_validation(self, share: float) -> Given:
        """The same with a fraction of the training images for validation."""
        if not share:
            return self
        if "validation" in self._parts:
            raise ValueError(
                f"data contains a validation split, so validation={share} does not "
                "apply. Leave it out."
            )
        if share not in self._divided:
            train = self._parts["train"]
            numbers = validation_numbers(len(train.labels), share)
            found = copy.copy(self)
            kept, held = (part_of(train, each) for each in numbers)
            found._parts = {**self._parts, "train": kept, "validation": held}
            found._resized, found._statistics = {}, {}
            self._divided[share] = found
        return self._divided[share]

    @property
    def normalized(self) -> bool:
        """Whether images are floats, which stay what they are."""
        return self._parts["train"].images.dtype.is_floating

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What `describe` says."""
        images = self._parts["train"].images
        height, width, channels = images.shape[1:]
        shape = (*(size or (height, width)), channels)
        # Of what was prepared elsewhere nothing is known.
        mean: tuple[float, ...] = ()
        std: tuple[float, ...] = ()
        if not self.normalized:
            if shape not in self._statistics:
                self._statistics[shape] = statistics(self.source("train", shape))
            mean, std = self._statistics[shape]
        return DatasetInfo(
            name=GIVEN,
            image_shape=shape,
            classes=len(self.class_names),
            class_names=self.class_names,
            train_examples=len(self._parts["train"].labels),
            test_examples=len(self._parts["test"].labels),
            mean=mean,
            std=std,
            validation_examples=(
                len(self._parts["validation"].labels)
                if "validation" in self._parts
                else 0
            ),
        )

    def source(
        self, split: str, shape: tuple[int, int, int], crop: float = 1.0
    ) -> Arrays:
        """The images of a split."""
        part = self._parts[split]
        same = part.images.shape[1:] == shape
        if same and (self.normalized or crop == 1):
            return part
        if self.normalized:
            raise ValueError(
                f"image_size={shape[:2]} does not apply to images of floats. Give them "
                "in this size, or as bytes."
            )
        if (split, shape, crop) not in self._resized:
            self._resized[split, shape, crop] = of_shape(part, split, shape, crop)
        return self._resized[split, shape, crop]


def _arrays(split: str, part: Any) -> Arrays:
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        raise TypeError(
            f"data holds {type(part).__name__} for the {split} images. Give (images, "
            "labels)."
        )
    images, labels = (np.asarray(each) for each in part)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"data holds {split} images of shape {images.shape} and labels of shape "
            f"{labels.shape}. Give (N, height, width, channels) and (N,)."
        )
    if not len(images):
        raise ValueError(f"data holds no {split} images. Give some.")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise TypeError(
                f"data holds {split} images of {images.dtype}. Give bytes (uint8), or "
                "floats that need no more preparation."
            )
        images = images.astype(np.float32)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(
            f"data holds {split} labels of {labels.dtype}, the least being "
            f"{labels.min()}. Give whole numbers from 0."
        )
    with tf.device("CPU:0"):
        return Arrays(tf.constant(images), tf.constant(labels.astype(np.int64)))


class Streams:
    """Data sets of `tf.data`: each pass is an epoch, just as it comes.

    Arguments:
        **parts: `train`, `test`, and `validation` if there is one: batches (images,
            labels), or single examples.
    """

    name = GIVEN

    def __init__(self, **parts: tf.data.Dataset) -> None:
        self._parts = {split: _checked(split, part) for split, part in parts.items()}
        shape, labels = self._image_shape("train"), set()
        for split in self._parts:
            if self._image_shape(split) != shape:
                raise ValueError(
                    f"data contains training images of {shape} and {split} images of "
                    f"{self._image_shape(split)}. Give both the same."
                )
        counts = {}
        for split, part in self._parts.items():
            found = [np.ravel(y) for y in part.map(lambda x, y: y).as_numpy_iterator()]
            if not found:
                raise ValueError(f"data holds no {split} images. Give some.")
            counts[split] = sum(map(len, found))
            labels |= {int(label) for label in np.unique(np.concatenate(found))}
        self._counts = counts
        self.class_names = class_names_of(1 + max(labels))

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What `describe` says."""
        shape = self._image_shape("train")
        if size is not None and size != shape[:2]:
            raise ValueError(
                f"image_size={size} does not apply to a tf.data.Dataset of images of "
                f"{shape[:2]}. Leave it out, and map the data set."
            )
        return DatasetInfo(
            name=GIVEN,
            image_shape=shape,
            classes=len(self.class_names),
            class_names=self.class_names,
            train_examples=self._counts["train"],
            test_examples=self._counts["test"],
            mean=(),
            std=(),
            validation_examples=self._counts.get("validation", 0),
        )

    def with_validation(self, share: float) -> Streams:
        """The same; of a stream nothing can be held out."""
        if share:
            raise ValueError(
                f"validation={share} does not apply to a tf.data.Dataset. Give three: "
                "data=(train, validation, test)."
            )
        return self

    def batches(
        self, split: str, batch_size: int, share: Share, step: int
    ) -> tf.data.Dataset:
        """Batches of float32 images from a step on; those of training are all full."""
        part = self._parts[split]
        if part.element_spec[0].shape.rank == 4:
            part = part.unbatch()
        if split == "train":
            batch_size = min(batch_size, self._counts["train"])
        part = part.batch(batch_size, drop_remainder=split == "train")
        count = self._counts[split]
        steps = count // batch_size if split == "train" else -(-count // batch_size)
        whole = part.map(
            lambda x, y: (tf.cast(x, tf.float32), tf.cast(y, tf.int64)),
            tf.data.AUTOTUNE,
        ).apply(tf.data.experimental.assert_cardinality(steps))
        found = cut(whole, share)
        if step:
            found = found.skip(step * share[1]).concatenate(found.repeat())
        return prefetched(found)

    def _image_shape(self, split: str) -> tuple[int, int, int]:
        return tuple(self._parts[split].element_spec[0].shape[-3:])


def _checked(split: str, part: tf.data.Dataset) -> tf.data.Dataset:
    spec = part.element_spec
    good = isinstance(spec, tuple) and len(spec) == 2
    if not good or spec[0].shape.rank not in (3, 4) or None in spec[0].shape[-3:]:
        raise ValueError(
            f"data holds a {split} data set of {spec}. Give pairs of images, of known "
            "height, width and channels, and labels."
        )
    if not spec[1].dtype.is_integer:
        raise ValueError(
            f"data holds {split} labels of {spec[1].dtype.name}. Give whole numbers."
        )
    if part.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"data holds a {split} data set without an end. Give it one by .take(), or "
            "leave out .repeat()."
        )
    return part


def user_images(data: Any) -> Given | Streams:
    """Returns what a caller passes as `data`, checked.

    Arguments:
        data: Training and test images, or training, validation and test images: each
            (images, labels) as arrays, or each a `tf.data.Dataset`.

    Raises:
        TypeError, ValueError: If it is something else.
    """
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError(
            f"data of type {type(data).__name__} is no pair. Give (train, test) or "
            "(train, validation, test): each a tf.data.Dataset, or (images, labels)."
        )
    kinds = {isinstance(part, tf.data.Dataset) for part in data}
    if len(kinds) > 1:
        raise TypeError(
            "data holds a tf.data.Dataset beside arrays. Give all of the same kind."
        )
    names = ("train", "validation", "test")[:: 2 if len(data) == 2 else 1]
    parts = dict(zip(names, data, strict=True))
    return Streams(**parts) if kinds == {True} else Given(**parts)
