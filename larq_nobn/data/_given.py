"""Images that a caller passes, as arrays or as `tf.data`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._names import GIVEN
from ._batches import Share, cut, prefetched
from ._images import Images, InMemory, Shape, Size
from ._registry import DatasetInfo
from ._source import Arrays, on_host, statistics


class Given(InMemory):
    """Arrays of a caller, by split: bytes, or floats that are taken as they are."""

    name = GIVEN

    def __init__(self, parts: dict[str, Any], validation: float) -> None:
        pairs = {split: _pair(split, part) for split, part in parts.items()}
        kinds = {f"{x.shape[1:]} and {x.dtype}": None for x, _ in pairs.values()}
        if len(kinds) > 1:
            raise InvalidValue(
                f"data contains images of {', and of '.join(kinds)}. Give all of the "
                "same size and type."
            )
        self.check_division(validation, parts)
        self.class_names, labels = numbered({s: y for s, (_, y) in pairs.items()})
        self._given = {s: Arrays(on_host(x), labels[s]) for s, (x, _) in pairs.items()}
        self.validation = validation
        self._splits = {*parts, *(["validation"] if validation else [])}
        self._normalized = self._given["train"].images.dtype.is_floating

    def digests(self, split: str) -> list[str]:
        images = self.part(split).images.numpy()
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]

    def whole(self, split: str) -> Arrays:
        return self._given[split]

    def info(self, size: Size) -> DatasetInfo:
        """Their own size and channels; of floats nothing but these is known."""
        *own, channels = self.part("train").images.shape[1:]
        shape = (*(size or own), channels)
        counts = {split: len(self.part(split).labels) for split in self._splits}
        if self._normalized:
            return self.described(shape, counts)
        return self.described(shape, counts, statistics(self.read("train", shape, 1.0)))

    def read(self, split: str, shape: Shape, crop: float) -> Arrays:
        if not self._normalized:
            return super().read(split, shape, crop)
        if self.part(split).images.shape[1:] != shape:
            raise InvalidValue(
                f"image_size={shape[:2]} does not apply to images of floats. Give them "
                "in this size, or as bytes."
            )
        return self.part(split)


def numbered(
    labels: Mapping[str, np.ndarray], names: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Returns the names of the classes, and the labels of each split as numbers.

    Labels are numbers, of which the names may be known, or names.
    """
    for split, part in labels.items():
        if not len(part):
            raise InvalidValue(f"data contains no {split} images. Give some.")
    texts = {part.dtype.kind in "US" for part in labels.values()}
    whole = np.concatenate([*labels.values()])
    if texts == {True}:
        known, whole = np.unique(whole.astype(str), return_inverse=True)
        names = known.tolist()
    numbers = whole.ndim == 1 and whole.dtype.kind in "biuf"
    if not numbers or (whole < 0).any() or (whole != np.floor(whole)).any():
        raise InvalidValue(
            f"data contains labels of {whole.dtype} and shape {whole.shape}. Give "
            "whole numbers from 0 or names of classes, (N,); of one-hot rows "
            "labels.argmax(1)."
        )
    classes, most = 1 + int(whole.max()), len(names or whole)
    if classes > most:
        raise InvalidValue(
            f"data contains labels up to {classes - 1}, but names or images of only "
            f"{most} classes. Name all of them, or number them from 0: "
            "np.unique(labels, return_inverse=True)[1]."
        )
    names = tuple(map(str, names or range(classes)))
    if len(names) < 2:
        raise InvalidValue(
            "data contains labels of one class only, but a classifier needs two or "
            "more."
        )
    ends = np.cumsum([len(part) for part in labels.values()])[:-1]
    parts = np.split(whole.astype(np.int64), ends)
    return names, dict(zip(labels, parts, strict=True))


def _column(labels: Any) -> Any:
    """Labels (N,), also of a column (N, 1) of them."""
    return labels[:, 0] if len(labels.shape) == 2 and labels.shape[1] == 1 else labels


def _pair(split: str, part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images of four axes, bytes or float32, and labels."""
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        raise InvalidType(
            f"data contains {type(part).__name__} for the {split} images. Give "
            "(images, labels)."
        )
    images, labels = map(np.asarray, part)
    if labels.dtype == object:  # of texts, for example
        labels = np.array(labels.tolist())
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or labels.ndim not in (1, 2) or len(images) != len(labels):
        raise InvalidValue(
            f"data contains {split} images of shape {images.shape} and labels of shape "
            f"{labels.shape}. Give (N, height, width, channels) and (N,)."
        )
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise InvalidType(
                f"data contains {split} images of {images.dtype}. Give bytes (uint8), "
                "or floats that need no more preparation."
            )
        images = images.astype(np.float32)
    return images, _column(labels)


class Streams(Images):
    """Data sets of `tf.data`, by split: each pass is an epoch, just as it comes."""

    name, unfit = GIVEN, ("mixup", "augment", "shuffle", "like")
    remedy = "a tf.data.Dataset. Leave it out, and map the data set"

    def __init__(self, parts: dict[str, tf.data.Dataset]) -> None:
        shapes = {split: _image_shape(split, part) for split, part in parts.items()}
        if len({*shapes.values()}) > 1:
            raise InvalidValue(
                f"data contains images of {', and of '.join(map(str, shapes.values()))}"
                ". Give all of the same size."
            )
        self._parts, self._shape = parts, shapes["train"]
        labels = {split: _labels(part) for split, part in parts.items()}
        self._counts = {split: len(part) for split, part in labels.items()}
        # As `image_dataset_from_directory` leaves them; what is mapped loses them.
        names = {tuple(getattr(part, "class_names", ())) for part in parts.values()}
        if len(names - {()}) > 1:
            raise InvalidValue(
                "data contains splits of different class names. Give "
                "image_dataset_from_directory the same class_names for all of them."
            )
        self.class_names, _ = numbered(labels, max(names, key=len))

    def info(self, size: Size) -> DatasetInfo:
        """Their one size, of images of which no statistics are known."""
        if size not in (None, self._shape[:2]):
            raise InvalidValue(
                f"image_size={size} does not apply to a tf.data.Dataset of images of "
                f"{self._shape[:2]}. Leave it out, and map the data set."
            )
        return self.described(self._shape, self._counts)

    def batches(
        self, split: str, batch_size: int, share: Share, step: int, limit: int | None
    ) -> tf.data.Dataset:
        """Batches of float32 images from a step on; those of training are all full."""
        part = self._parts[split]
        count = min(self._counts[split], limit or self._counts[split])
        training = split == "train"
        if part.element_spec[0].shape.rank == 4:
            part = part.unbatch()
        part = part.take(count)
        if training:
            batch_size = min(batch_size, count)
        steps = count // batch_size if training else -(-count // batch_size)
        whole = part.batch(batch_size, drop_remainder=training)
        whole = whole.map(
            lambda x, y: (tf.cast(x, tf.float32), tf.cast(_column(y), tf.int64)),
            tf.data.AUTOTUNE,
        ).apply(tf.data.experimental.assert_cardinality(steps))
        batches = cut(whole, share)
        if step:
            batches = batches.skip(step * share[1]).concatenate(batches.repeat())
        return prefetched(batches)


def _image_shape(split: str, part: tf.data.Dataset) -> Shape:
    """The shape of an image, of which and of classes' numbers there are pairs."""
    spec = part.element_spec
    pair = isinstance(spec, tuple) and len(spec) == 2
    good = pair and spec[0].shape.rank in (3, 4) and None not in spec[0].shape[-3:]
    if not good or spec[1].dtype == tf.string:
        raise InvalidValue(
            f"data contains a {split} data set of {spec}. Give pairs of images, of "
            "known height, width and channels, and of numbers of classes."
        )
    if part.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InvalidValue(
            f"data contains a {split} data set without an end. Give it one by .take(), "
            "or leave out .repeat()."
        )
    return tuple(spec[0].shape[-3:])


def _labels(part: tf.data.Dataset) -> np.ndarray:
    own = part.map(lambda x, y: y)
    if part.element_spec[0].shape.rank == 3:  # single examples
        own = own.batch(1024)  # so many are read at once
    batches = list(own.as_numpy_iterator())
    return _column(np.concatenate(batches)) if batches else np.empty(0)
