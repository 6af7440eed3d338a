"""Images that a caller passes as `tf.data`."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .._datasets import DatasetInfo
from .._names import GIVEN
from ._batches import Share, cut, prefetched
from ._images import Shape, described, names_of


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
                raise ValueError(
                    f"data contains training images of {self._shape} and {split} "
                    f"images of {shapes[split]}. Give both the same."
                )
            found = [np.ravel(y) for y in part.map(lambda x, y: y).as_numpy_iterator()]
            if not found:
                raise ValueError(f"data contains no {split} images. Give some.")
            labels[split] = np.concatenate(found)
        self._counts = {split: len(each) for split, each in labels.items()}
        self.class_names = names_of(labels.values())

    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """Their one size, of images of which no statistics are known."""
        if size not in (None, self._shape[:2]):
            raise ValueError(
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
        raise ValueError(
            f"data contains a {split} data set of {spec}. Give pairs of images, of "
            "known height, width and channels, and labels."
        )
    if not spec[1].dtype.is_integer:
        raise ValueError(
            f"data contains {split} labels of {spec[1].dtype.name}. Give whole numbers."
        )
    if part.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"data contains a {split} data set without an end. Give it one by .take(), "
            "or leave out .repeat()."
        )
    return part
