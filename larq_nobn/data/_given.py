"""Images that a caller passes, as arrays or as `tf.data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._names import GIVEN
from ._batches import Share, cut, prefetched
from ._images import InMemory, Shape, cached_method, described
from ._registry import DatasetInfo
from ._source import Arrays, statistics

# So many labels are read at once.
_LABELS = 1024


class Given(InMemory):
    """Arrays of a caller: bytes, or floats that are taken as they are.

    The parts are `train`, `test`, and `validation` if there is one: images (N, height,
    width, channels) or (N, height, width), and labels: numbers or names of classes,
    (N,) or (N, 1), or one-hot rows (N, classes).
    """

    name = GIVEN

    def __init__(self, parts: dict[str, Any], validation: float) -> None:
        pairs = {split: _pair(split, part) for split, part in parts.items()}
        self.class_names = names_of({split: y for split, (_, y) in pairs.items()})
        given = {
            split: _arrays(split, x, class_numbers(y, self.class_names))
            for split, (x, y) in pairs.items()
        }
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
        self._splits = {*given, *(["validation"] if validation else [])}
        self._normalized = train.dtype.is_floating

    @cached_method
    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """Their own size and channels; of floats nothing but these is known."""
        height, width, channels = self.part("train").images.shape[1:]
        shape = (*(size or (height, width)), channels)
        counts = {split: len(self.part(split).labels) for split in self._splits}
        if self._normalized:
            return described(self.name, self.class_names, shape, counts)
        of_training = statistics(self.read("train", shape, 1.0))
        return described(self.name, self.class_names, shape, counts, of_training)

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


def names_of(
    labels: Mapping[str, np.ndarray], given: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Returns the names of the classes of some labels, or their numbers as names.

    Arguments:
        labels: Of each split, as they were given.
        given: Names of the classes by number, if they are known.

    Raises:
        ValueError: If they are neither numbers nor names of classes nor one-hot, or
            there are not enough of them.
    """
    kinds = {_check_labels(split, part) for split, part in labels.items()}
    if len(kinds) > 1:
        raise InvalidValue(
            f"data contains labels as {' and as '.join(sorted(kinds))}. Give all of "
            "the same kind."
        )
    if kinds == {"names"}:
        texts = np.concatenate([np.ravel(y) for y in labels.values()])
        known = {x.decode() if isinstance(x, bytes) else str(x) for x in texts}
        names = tuple(sorted(known))
    else:
        classes = max(_count_classes(y) for y in labels.values())
        images = sum(map(len, labels.values()))
        if classes > max(images, len(given or ())):
            raise InvalidValue(
                f"data contains labels up to {classes - 1} of {images} images. Labels "
                "are numbers of classes from 0: give np.unique(labels, "
                "return_inverse=True)[1], or names."
            )
        names = tuple(map(str, given or range(classes)))
        _check_count(classes, names)
    if len(names) < 2:
        raise InvalidValue(
            "data contains labels of one class only, but a classifier needs two or "
            "more."
        )
    return names


def class_numbers(labels: Any, names: Sequence[str]) -> tf.Tensor:
    """Returns the numbers of classes, (N,) int64, of labels that were checked."""
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 2 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.dtype == tf.string:
        labels = tf.cast(labels[..., tf.newaxis] == tf.constant(names), tf.int32)
    return (
        tf.argmax(labels, -1) if labels.shape.rank == 2 else tf.cast(labels, tf.int64)
    )


def _check_labels(split: str, labels: np.ndarray) -> str:
    """Returns what kind of labels they are."""
    column = labels.ndim == 2 and labels.shape[1] == 1
    if not len(labels):
        raise InvalidValue(f"data contains no {split} images. Give some.")
    if (labels.ndim == 1 or column) and all(
        isinstance(x, (str, bytes)) for x in labels.flat
    ):
        return "names"
    whole = labels.dtype.kind in "biuf" and np.array_equal(labels, np.floor(labels))
    if whole and labels.min() >= 0 and (labels.ndim == 1 or column):
        return "numbers"
    if whole and labels.ndim == 2 and labels.min() >= 0 and (labels.sum(1) == 1).all():
        return "one-hot rows"
    raise InvalidValue(
        f"data contains {split} labels of {labels.dtype} and shape {labels.shape}. "
        "Give whole numbers from 0 or names of classes, (N,), or one-hot rows, (N, "
        "classes)."
    )


def _check_count(classes: int, names: Sequence[str]) -> None:
    if len(names) < classes:
        raise InvalidValue(
            f"data contains labels up to {classes - 1}, but names only {len(names)} "
            "classes. Name all of them."
        )


def _count_classes(labels: np.ndarray) -> int:
    if labels.ndim == 2 and labels.shape[1] > 1:
        return int(labels.shape[1])
    return 1 + int(labels.max())


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
    return images, labels


def _arrays(split: str, images: np.ndarray, labels: tf.Tensor) -> Arrays:
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise InvalidType(
                f"data contains {split} images of {images.dtype}. Give bytes (uint8), "
                "or floats that need no more preparation."
            )
        images = images.astype(np.float32)
    with tf.device("CPU:0"):
        return Arrays(tf.constant(images), tf.identity(labels))


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
            labels[split] = np.concatenate(batches)
        self._counts = {split: len(part) for split, part in labels.items()}
        # As `image_dataset_from_directory` leaves them, for each of its folders.
        own = {
            split: tuple(part.class_names)
            for split, part in parts.items()
            if hasattr(part, "class_names") and part.element_spec[1].dtype != tf.string
        }
        # One that was mapped has no names any more: those of another are meant.
        known = own.get("train") or next(iter(own.values()), None)
        self.class_names = names_of(labels, known)
        self._places = {
            split: _places(split, own.get(split, self.class_names), self.class_names)
            for split in parts
        }
        for split, names in own.items():
            _check_count(_count_classes(labels[split]), names)

    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """Their one size, of images of which no statistics are known."""
        if size not in (None, self._shape[:2]):
            raise InvalidValue(
                f"image_size={size} does not apply to a tf.data.Dataset of images of "
                f"{self._shape[:2]}. Leave it out, and map the data set."
            )
        return described(self.name, self.class_names, self._shape, self._counts)

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
        places = self._places[split]
        whole = whole.map(
            lambda x, y: (
                tf.cast(x, tf.float32),
                tf.gather(places, class_numbers(y, self.class_names)),
            ),
            tf.data.AUTOTUNE,
        ).apply(tf.data.experimental.assert_cardinality(steps))
        batches = cut(whole, share)
        if step:
            batches = batches.skip(step * share[1]).concatenate(batches.repeat())
        return prefetched(batches)


def _places(split: str, own: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """The numbers of the classes of a split, which may have a part of all of them."""
    if unknown := [name for name in own if name not in names]:
        raise InvalidValue(
            f"data contains {split} images of the class {unknown[0]!r}, which is not "
            "among the training images. Give image_dataset_from_directory the same "
            "class_names for both."
        )
    return np.array([names.index(name) for name in own], np.int64)


def _checked(split: str, part: tf.data.Dataset) -> tf.data.Dataset:
    spec = part.element_spec
    good = isinstance(spec, tuple) and len(spec) == 2
    if not good or spec[0].shape.rank not in (3, 4) or None in spec[0].shape[-3:]:
        raise InvalidValue(
            f"data contains a {split} data set of {spec}. Give pairs of images, of "
            "known height, width and channels, and labels."
        )
    if part.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InvalidValue(
            f"data contains a {split} data set without an end. Give it one by .take(), "
            "or leave out .repeat()."
        )
    return part
