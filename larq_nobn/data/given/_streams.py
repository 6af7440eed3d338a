"""Data sets of `tf.data` that a caller hands over."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .._registry import DatasetInfo
from ._name import GIVEN, class_names_of


class Streams:
    """Data sets of `tf.data`: each pass is an epoch, just as it comes.

    Arguments:
        **parts: `train`, `test`, and `validation` if there is one: batches (images,
            labels), or single examples.
    """

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

    def batches(self, split: str, batch_size: int) -> tf.data.Dataset:
        """Batches of float32 images; those of training are all full."""
        part = self._parts[split]
        if part.element_spec[0].shape.rank == 4:
            part = part.unbatch()
        if split == "train":
            batch_size = min(batch_size, self._counts["train"])
        part = part.batch(batch_size, drop_remainder=split == "train")
        count = self._counts[split]
        steps = count // batch_size if split == "train" else -(-count // batch_size)
        return part.map(
            lambda x, y: (tf.cast(x, tf.float32), tf.cast(y, tf.int64)),
            tf.data.AUTOTUNE,
        ).apply(tf.data.experimental.assert_cardinality(steps))

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
