"""Images of the caller, as arrays or as `tf.data`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._names import GIVEN
from ._epochs import Share, cut, prefetched
from ._images import Images, InMemory, Shape, Size
from ._registry import DatasetInfo
from ._source import Source, Statistics

_log = logging.getLogger("larq_nobn")
# Largest data set of unknown length whose examples are counted.
_COUNTED = 100_000


class Given(InMemory):
    """Arrays of the caller by split: bytes, or normalized floats."""

    name = GIVEN

    def __init__(
        self, splits: dict[str, Any], validation: float = 0.0, few: bool = False
    ) -> None:
        pairs = {split: _pair(split, data) for split, data in splits.items()}
        kinds = {f"{x.shape[1:]} and {x.dtype}": None for x, _ in pairs.values()}
        if len(kinds) > 1:
            raise InvalidValue(
                f"data contains images of {', and of '.join(kinds)}. Give all of the "
                "same size and type."
            )
        self.check_division(validation, splits)
        labels = {split: y for split, (_, y) in pairs.items()}
        self.nameless = labels["train"].dtype.kind not in "US"
        self.class_names, labels = numbered(labels, few=few)
        self._arrays = {split: (x, labels[split]) for split, (x, _) in pairs.items()}
        self.validation = validation
        self._splits = [*splits, *(["validation"] if validation else [])]
        images = self._arrays["train"][0]
        self.normalized = images.dtype != np.uint8
        if self.normalized:
            warn_of_pixels("the train images", images)

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]  # nobody sets it
        """A digest of images and classes."""
        digest = hashlib.sha256(repr((self.class_names, self.validation)).encode())
        for split, (images, labels) in self._arrays.items():
            digest.update(f"{split} {images.shape}".encode())
            digest.update(np.ascontiguousarray(images).data)
            digest.update(np.ascontiguousarray(labels).data)
        return digest.hexdigest()

    def digests(self, split: str) -> list[str]:
        images, _ = self.used(split)
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]

    def whole(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        return self._arrays[split]

    def counts(self) -> dict[str, int]:
        return {split: len(self.used(split)[1]) for split in self._splits}

    def own_shape(self) -> Shape:
        height, width, channels = self._arrays["train"][0].shape[1:]
        return height, width, channels

    def statistics(self, shape: Shape) -> Statistics:
        return ((), ()) if self.normalized else super().statistics(shape)

    def read(self, split: str, shape: Shape, crop: float) -> Source:
        if self.normalized and self.own_shape() != shape:
            raise InvalidValue(
                f"image_size={shape[:2]}, channels={shape[2]} does not apply to images "
                "of floats. Give them in that size, or as bytes."
            )
        return super().read(split, shape, 1.0 if self.normalized else crop)


def warn_of_pixels(what: str, images: np.ndarray) -> None:
    """Warns of values that look like bytes, if nothing normalizes them."""
    if images.size and images.min() >= 0 and 2 < images.max() <= 255:
        _log.warning(
            "data contains values from %g to %g for %s, and nothing normalizes them. "
            "Give (images - mean) / std, or arrays of bytes (uint8).",
            *(images.min(), images.max(), what),
        )


def numbered(
    labels: Mapping[str, np.ndarray], names: Sequence[str] = (), few: bool = False
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Returns the names of the classes, and the labels of each split as numbers.

    Labels are names, or numbers whose `names` may be given. With `few`, some classes of
    a classifier may have no image.
    """
    for split, own in labels.items():
        if not len(own):
            raise InvalidValue(f"data contains no {split} images. Give some.")
    texts = {own.dtype.kind in "US" for own in labels.values()}
    whole = np.concatenate([*labels.values()])
    if texts == {True}:
        known, whole = np.unique(whole.astype(str), return_inverse=True)
        names = known.tolist()
    numbers = whole.ndim == 1 and whole.dtype.kind in "biuf"
    if not numbers or (whole < 0).any() or (whole != np.floor(whole)).any():
        raise InvalidValue(
            f"data contains labels of {whole.dtype} and shape {whole.shape}. Give "
            "whole numbers from 0 or names of classes, (N,); for one-hot labels, give "
            "labels.argmax(1)."
        )
    classes, most = 1 + int(whole.max()), len(names or whole)
    if classes > most and not few:
        raise InvalidValue(
            f"data contains labels up to {classes - 1}, but only {most} names or "
            "images. Name all classes, or number them from 0: "
            "np.unique(labels, return_inverse=True)[1]."
        )
    names = tuple(map(str, names or range(classes)))
    if len(names) < 2 and not few:
        raise InvalidValue(
            "data contains labels of one class only. A classifier needs two or more."
        )
    ends = np.cumsum([len(own) for own in labels.values()])[:-1]
    numbers_of = np.split(whole.astype(np.int64), ends)
    return names, dict(zip(labels, numbers_of, strict=True))


def _column(labels: Any) -> Any:
    """Returns labels as (N,), also if they are (N, 1)."""
    return labels[:, 0] if len(labels.shape) == 2 and labels.shape[1] == 1 else labels


def _pair(split: str, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of four axes, as uint8 or float32, and labels."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InvalidType(
            f"data contains {type(data).__name__} for the {split} images. Give "
            "(images, labels)."
        )
    images, labels = map(np.asarray, data)
    if labels.dtype == object:  # for example, of strings
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
                "or normalized floats."
            )
        images = images.astype(np.float32)
    return images, _column(labels)


class Streams(Images):
    """Data sets of `tf.data` by split: each pass is an epoch, used unchanged."""

    name = GIVEN

    def __init__(self, splits: dict[str, tf.data.Dataset]) -> None:
        shapes = {split: _image_shape(split, data) for split, data in splits.items()}
        if len({*shapes.values()}) > 1:
            raise InvalidValue(
                f"data contains images of {', and of '.join(map(str, shapes.values()))}"
                ". Give all of the same size."
            )
        self._splits, self._shape = splits, shapes["train"]
        labels = {split: _labels(split, data) for split, data in splits.items()}
        self._counts = {split: len(own) for split, own in labels.items()}
        # `image_dataset_from_directory` sets this attribute; `map` loses it.
        names = {tuple(getattr(data, "class_names", ())) for data in splits.values()}
        if len(names - {()}) > 1:
            raise InvalidValue(
                "data contains splits of different class names. Give "
                "image_dataset_from_directory the same class_names for all of them."
            )
        self.class_names, _ = numbered(labels, max(names, key=len))

    def counts(self) -> dict[str, int]:
        return self._counts

    def own_shape(self) -> Shape:
        return self._shape

    def statistics(self, shape: Shape) -> Statistics:
        return (), ()

    def info(self, size: Size, channels: int | None) -> DatasetInfo:
        """Returns the description; the size is fixed, and there are no statistics."""
        same_size = size in (None, self._shape[:2])
        if not same_size or channels not in (None, self._shape[2]):
            raise InvalidValue(
                f"image_size={size}, channels={channels} does not apply to a "
                f"tf.data.Dataset of images of {self._shape}. Leave it out, and map "
                "the data set."
            )
        return super().info(None, None)

    def read(self, split: str, shape: Shape, crop: float) -> Source:
        raise InvalidValue(
            "Images of a tf.data.Dataset cannot be read by number, and its classes are "
            "not counted. Give arrays, or leave out the option that needs this."
        )

    def batches(
        self, split: str, batch_size: int, share: Share, step: int, limit: int | None
    ) -> tf.data.Dataset:
        """Returns float32 batches from a step on; training batches are all full."""
        data, training = self._splits[split], split == "train"
        count = min(self._counts[split], limit or self._counts[split])
        if data.element_spec[0].shape.rank == 4:
            data = data.unbatch()
        if training:
            batch_size = min(batch_size, count)
        steps = count // batch_size if training else -(-count // batch_size)

        def typed(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.cast(x, tf.float32), tf.cast(_column(y), tf.int64)

        whole = data.take(count).batch(batch_size, drop_remainder=training)
        length = tf.data.experimental.assert_cardinality(steps)
        batches = cut(whole.map(typed, tf.data.AUTOTUNE).apply(length), share)
        if step:
            batches = batches.skip(step * share[1]).concatenate(batches.repeat())
        return prefetched(batches)


def _image_shape(split: str, data: tf.data.Dataset) -> Shape:
    """Returns the shape of an image; rejects other elements than (images, labels)."""
    spec = data.element_spec
    pair = isinstance(spec, tuple) and len(spec) == 2
    good = pair and spec[0].shape.rank in (3, 4) and None not in spec[0].shape[-3:]
    if not good or spec[1].dtype == tf.string:
        raise InvalidValue(
            f"data contains a {split} data set of {spec}. Give pairs of images, of "
            "known height, width and channels, and labels, as numbers."
        )
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InvalidValue(
            f"data contains a {split} data set without an end. End it by .take(), or "
            "leave out .repeat()."
        )
    return tuple(spec[0].shape[-3:])


def _labels(split: str, data: tf.data.Dataset) -> np.ndarray:
    """Returns all labels; warns if the first images look like bytes."""
    if data.element_spec[0].shape.rank == 3:  # single examples
        data = data.batch(1024)  # faster than one by one
    for images, _ in data.take(1).as_numpy_iterator():
        warn_of_pixels(f"the {split} images", images)
    unknown = data.cardinality() == tf.data.UNKNOWN_CARDINALITY
    batches, count = [], 0
    for labels in data.map(lambda x, y: y).as_numpy_iterator():
        batches.append(labels)
        count += len(labels)
        if unknown and count > _COUNTED:
            raise InvalidValue(
                f"data contains a {split} data set of unknown length, which has not "
                f"ended after {count:,} examples. Set its length by .take(), or by "
                ".apply(tf.data.experimental.assert_cardinality(...))."
            )
    return _column(np.concatenate(batches)) if batches else np.empty(0)
