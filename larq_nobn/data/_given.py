"""Images that a caller passes, as arrays or as `tf.data`."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .._datasets import DatasetInfo
from .._errors import InvalidType, InvalidValue
from .._names import GIVEN
from ._batches import Share, cut, prefetched
from ._images import InMemory, Shape, described, remembered
from ._source import Arrays, statistics


class Given(InMemory):
    """Arrays of a caller: bytes, or floats that are taken as they are.

    The parts are `train`, `test`, and `validation` if there is one: images (N, height,
    width, channels) or (N, height, width), and labels.
    """

    name = GIVEN

    def __init__(self, parts: dict[str, Any], validation: float) -> None:
        given = {split: _arrays(split, part) for split, part in parts.items()}
        super().__init__(given.__getitem__, validation)
        train = given["train"].images
        for split, part in given.items():
            images = part.images
            if images.shape[1:] != train.shape[1:] or images.dtype != train.dtype:
                raise InvalidValue(
                    f"data contains training images of {train.shape[1:]} and "
                    f"{train.dtype.name}, and {split} images of {images.shape[1:]} and "
                    f"{images.dtype.name}. Give both the same."
                )
        if validation and "validation" in parts:
            raise InvalidValue(
                f"data contains a validation split, so validation={validation} does "
                "not apply. Leave it out."
            )
        self.class_names = names_of(p.labels.numpy() for p in given.values())
        self._splits = {*given, *(["validation"] if validation else [])}
        self._normalized = train.dtype.is_floating

    @remembered
    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """Their own size and channels; of floats nothing but these is known."""
        height, width, channels = self.part("train").images.shape[1:]
        shape = (*(size or (height, width)), channels)
        counts = {split: len(self.part(split).labels) for split in self._splits}
        if self._normalized:
            return described(self.name, self.class_names, shape, counts)
        found = statistics(self.read("train", shape, 1.0))
        return described(self.name, self.class_names, shape, counts, found)

    def read(self, split: str, shape: Shape, crop: float) -> Arrays:
        """The images of a split; floats are taken as they are."""
        if not self._normalized:
            return super().read(split, shape, crop)
        if self.part(split).images.shape[1:] != shape:
            raise InvalidValue(
                f"image_size={shape[:2]} does not apply to images of floats. Give them "
                "in this size, or as bytes."
            )
        return self.part(split)


def names_of(labels: Any) -> tuple[str, ...]:
    """Returns the numbers of the classes as names, if there are enough."""
    classes = 1 + max(int(each.max()) for each in labels)
    if classes < 2:
        raise InvalidValue(
            "data contains labels of one class only, but a classifier needs two or "
            "more."
        )
    return tuple(map(str, range(classes)))


def _arrays(split: str, part: Any) -> Arrays:
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        raise InvalidType(
            f"data contains {type(part).__name__} for the {split} images. Give "
            "(images, labels)."
        )
    images, labels = (np.asarray(each) for each in part)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
        raise InvalidValue(
            f"data contains {split} images of shape {images.shape} and labels of shape "
            f"{labels.shape}. Give (N, height, width, channels) and (N,)."
        )
    if not len(images):
        raise InvalidValue(f"data contains no {split} images. Give some.")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise InvalidType(
                f"data contains {split} images of {images.dtype}. Give bytes (uint8), "
                "or floats that need no more preparation."
            )
        images = images.astype(np.float32)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise InvalidValue(
            f"data contains {split} labels of {labels.dtype}, the least being "
            f"{labels.min()}. Give whole numbers from 0."
        )
    with tf.device("CPU:0"):
        return Arrays(tf.constant(images), tf.constant(labels.astype(np.int64)))


class Streams:
    """Data sets of `tf.data`: each pass is an epoch, just as it comes.

    The parts are `train`, `test`, and `validation` if there is one: batches (images,
    labels), or single examples.
    """

    name = GIVEN

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = {split: _checked(split, part) for split, part in parts.items()}
        shapes = {s: tuple(p.element_spec[0].shape[-3:]) for s, p in parts.items()}
        self._shape: Shape = shapes["train"]
        labels = {}
        for split, part in self._parts.items():
            if shapes[split] != self._shape:
                raise InvalidValue(
                    f"data contains training images of {self._shape} and {split} "
                    f"images of {shapes[split]}. Give both the same."
                )
            found = [np.ravel(y) for y in part.map(lambda x, y: y).as_numpy_iterator()]
            if not found:
                raise InvalidValue(f"data contains no {split} images. Give some.")
            labels[split] = np.concatenate(found)
        self._counts = {split: len(each) for split, each in labels.items()}
        self.class_names = names_of(labels.values())

    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """Their one size, of images of which no statistics are known."""
        if size not in (None, self._shape[:2]):
            raise InvalidValue(
                f"image_size={size} does not apply to a tf.data.Dataset of images of "
                f"{self._shape[:2]}. Leave it out, and map the data set."
            )
        return described(self.name, self.class_names, self._shape, self._counts)

    def batches(
        self, split: str, batch_size: int, share: Share, step: int
    ) -> tf.data.Dataset:
        """Batches of float32 images from a step on; those of training are all full."""
        part, count = self._parts[split], self._counts[split]
        training = split == "train"
        if part.element_spec[0].shape.rank == 4:
            part = part.unbatch()
        if training:
            batch_size = min(batch_size, count)
        steps = count // batch_size if training else -(-count // batch_size)
        whole = part.batch(batch_size, drop_remainder=training)
        whole = whole.map(
            lambda x, y: (tf.cast(x, tf.float32), tf.cast(y, tf.int64)),
            tf.data.AUTOTUNE,
        ).apply(tf.data.experimental.assert_cardinality(steps))
        found = cut(whole, share)
        if step:
            found = found.skip(step * share[1]).concatenate(found.repeat())
        return prefetched(found)


def _checked(split: str, part: tf.data.Dataset) -> tf.data.Dataset:
    spec = part.element_spec
    good = isinstance(spec, tuple) and len(spec) == 2
    if not good or spec[0].shape.rank not in (3, 4) or None in spec[0].shape[-3:]:
        raise InvalidValue(
            f"data contains a {split} data set of {spec}. Give pairs of images, of "
            "known height, width and channels, and labels."
        )
    if not spec[1].dtype.is_integer:
        raise InvalidValue(
            f"data contains {split} labels of {spec[1].dtype.name}. Give whole numbers."
        )
    if part.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InvalidValue(
            f"data contains a {split} data set without an end. Give it one by .take(), "
            "or leave out .repeat()."
        )
    return part
