"""Images that a caller passes, as arrays or as `tf.data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._names import GIVEN
from ._batches import Share, cut, prefetched
from ._images import Images, InMemory, Shape, Size, cached_method
from ._registry import DatasetInfo
from ._source import Arrays, statistics

# So many labels are read at once.
_LABELS = 1024


class Given(InMemory):
    """Arrays of a caller: bytes, or floats that are taken as they are.

    The parts are `train`, `test`, and `validation` if there is one: images (N, height,
    width, channels) or (N, height, width), and labels: numbers or names of classes,
    (N,) or (N, 1).
    """

    name = GIVEN

    def __init__(self, parts: dict[str, Any], validation: float) -> None:
        pairs = {split: _pair(split, part) for split, part in parts.items()}
        labels = {split: y for split, (_, y) in pairs.items()}
        self.class_names, numbers = numbered(labels)
        self._given = {
            split: _arrays(split, pairs[split][0], of_split)
            for split, of_split in zip(pairs, numbers, strict=True)
        }
        self.validation = validation
        train = self._given["train"].images
        for split, part in self._given.items():
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
        self._splits = {*parts, *(["validation"] if validation else [])}
        self._normalized = train.dtype.is_floating

    def whole(self, split: str) -> Arrays:
        return self._given[split]

    @cached_method
    def info(self, size: Size) -> DatasetInfo:
        """Their own size and channels; of floats nothing but these is known."""
        height, width, channels = self.part("train").images.shape[1:]
        shape = (*(size or (height, width)), channels)
        counts = {split: len(self.part(split).labels) for split in self._splits}
        if self._normalized:
            return self.described(shape, counts)
        of_training = statistics(self.read("train", shape, 1.0))
        return self.described(shape, counts, of_training)

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
    labels: Mapping[str, np.ndarray], given: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Returns the names of the classes, and the labels of each split as numbers.

    Arguments:
        labels: Of each split, (N,): numbers, or names of classes.
        given: Names of the classes by number, if they are known.

    Raises:
        ValueError: If they are neither, or there are not enough of them.
    """
    kinds = {_kind_of(split, part) for split, part in labels.items()}
    if len(kinds) > 1:
        raise InvalidValue(
            "data contains labels as names and as numbers. Give all of the same kind."
        )
    whole = np.concatenate([*labels.values()])
    if kinds == {"names"}:
        texts = [x.decode() if isinstance(x, bytes) else str(x) for x in whole]
        known, whole = np.unique(texts, return_inverse=True)
        given = known.tolist()
    classes = 1 + int(whole.max())
    if given and classes > len(given):
        raise InvalidValue(
            f"data contains labels up to {classes - 1}, but names only {len(given)} "
            "classes. Name all of them."
        )
    if not given and classes > len(whole):
        raise InvalidValue(
            f"data contains labels up to {classes - 1} of {len(whole)} images. Labels "
            "are numbers of classes from 0: give np.unique(labels, "
            "return_inverse=True)[1], or names."
        )
    names = tuple(map(str, given or range(classes)))
    if len(names) < 2:
        raise InvalidValue(
            "data contains labels of one class only, but a classifier needs two or "
            "more."
        )
    ends = np.cumsum([len(part) for part in labels.values()])[:-1]
    return names, np.split(whole.astype(np.int64), ends)


def _kind_of(split: str, labels: np.ndarray) -> str:
    if not len(labels):
        raise InvalidValue(f"data contains no {split} images. Give some.")
    if labels.ndim == 1 and all(isinstance(x, (str, bytes)) for x in labels):
        return "names"
    whole = labels.dtype.kind in "biuf" and np.array_equal(labels, np.floor(labels))
    if whole and labels.min() >= 0 and labels.ndim == 1:
        return "numbers"
    raise InvalidValue(
        f"data contains {split} labels of {labels.dtype} and shape {labels.shape}. "
        "Give whole numbers from 0 or names of classes, (N,); of one-hot rows "
        "labels.argmax(1)."
    )


def _column(labels: Any) -> Any:
    """Labels (N,), also of a column (N, 1) of them."""
    return labels[:, 0] if len(labels.shape) == 2 and labels.shape[1] == 1 else labels


def _pair(split: str, part: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        raise InvalidType(
            f"data contains {type(part).__name__} for the {split} images. Give "
            "(images, labels)."
        )
    images, labels = map(np.asarray, part)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or labels.ndim not in (1, 2) or len(images) != len(labels):
        raise InvalidValue(
            f"data contains {split} images of shape {images.shape} and labels of shape "
            f"{labels.shape}. Give (N, height, width, channels) and (N,)."
        )
    return images, _column(labels)


def _arrays(split: str, images: np.ndarray, labels: np.ndarray) -> Arrays:
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise InvalidType(
                f"data contains {split} images of {images.dtype}. Give bytes (uint8), "
                "or floats that need no more preparation."
            )
        images = images.astype(np.float32)
    with tf.device("CPU:0"):
        return Arrays(tf.constant(images), tf.constant(labels))


class Streams(Images):
    """Data sets of `tf.data`: each pass is an epoch, just as it comes.

    The parts are `train`, `test`, and `validation` if there is one: batches (images,
    labels), or single examples.
    """

    name, unfit = GIVEN, ("mixup", "augment", "shuffle", "like")
    remedy = "a tf.data.Dataset. Leave it out, and map the data set"

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = {split: _checked(split, part) for split, part in parts.items()}
        shapes = {s: tuple(p.element_spec[0].shape[-3:]) for s, p in parts.items()}
        self._shape: Shape = shapes["train"]
        labels: dict[str, np.ndarray] = {}
        for split, part in self._parts.items():
            if shapes[split] != self._shape:
                raise InvalidValue(
                    f"data contains training images of {self._shape} and {split} "
                    f"images of {shapes[split]}. Give both the same."
                )
            own = part.map(lambda x, y: y)
            if part.element_spec[0].shape.rank == 3:  # single examples
                own = own.batch(_LABELS)
            batches = list(own.as_numpy_iterator())
            if not batches:
                raise InvalidValue(f"data contains no {split} images. Give some.")
            labels[split] = _column(np.concatenate(batches))
        self._counts = {split: len(part) for split, part in labels.items()}
        # As `image_dataset_from_directory` leaves them; what is mapped loses them.
        names = (getattr(part, "class_names", ()) for part in parts.values())
        known = {tuple(of_split) for of_split in names if of_split}
        if len(known) > 1:
            raise InvalidValue(
                "data contains splits of different class names. Give "
                "image_dataset_from_directory the same class_names for all of them."
            )
        self.class_names, _ = numbered(labels, *known)

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


def _checked(split: str, part: tf.data.Dataset) -> tf.data.Dataset:
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
    return part
