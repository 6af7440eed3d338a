"""Where the images of a data set come from, and those that are in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from .._checks import check_bounds
from .._datasets import BUILT_IN, DatasetInfo
from .._names import GIVEN
from ._area import scaled
from ._source import Arrays, statistics, validation_numbers
from ._tfds import check_labels, prepared_builder, reading_records

Shape = tuple[int, int, int]
_Made = TypeVar("_Made")
_Method = TypeVar("_Method", bound=Callable[..., Any])
_KEPT = 12
_opened: dict[Hashable, Any] = {}


def once(
    key: Hashable, make: Callable[[], _Made], kept: dict[Hashable, Any] = _opened
) -> _Made:
    """Returns what was made for a key, if it is among the last few; else makes it."""
    if key in kept:
        return kept[key]
    made = kept[key] = make()
    while len(kept) > _KEPT:
        del kept[next(iter(kept))]
    return made


def remembered(method: _Method) -> _Method:
    """Lets a method return for the same arguments what it returned before."""

    @functools.wraps(method)
    def found(self: Any, *given: Hashable) -> Any:
        before = vars(self).setdefault("_remembered", {})
        key = (method.__name__, *given)
        return once(key, lambda: method(self, *given), before)

    return found  # type: ignore[return-value]


def described(
    name: str,
    class_names: tuple[str, ...],
    shape: Shape,
    counts: Mapping[str, int],
    of_training: tuple[tuple[float, ...], tuple[float, ...]] = ((), ()),
) -> DatasetInfo:
    """What is said of images; mean and standard deviation are of those for training."""
    mean, std = of_training
    return DatasetInfo(
        name=name,
        image_shape=shape,
        classes=len(class_names),
        class_names=class_names,
        train_examples=counts["train"],
        test_examples=counts["test"],
        mean=mean,
        std=std,
        validation_examples=counts.get("validation", 0),
    )


class InMemory:
    """Images in memory, of whose training images a fraction may be for validation.

    `whole` gives a split as it is stored.
    """

    def __init__(self, whole: Callable[[str], Arrays], validation: float) -> None:
        self._whole, self._validation = whole, validation

    @remembered
    def part(self, split: str) -> Arrays:
        """A split as it is used, in its own shape."""
        if self._validation and split != "test":
            return self._divided()[split == "validation"]
        return self._whole(split)

    @remembered
    def _divided(self) -> tuple[Arrays, Arrays]:
        whole = self._whole("train")
        numbers = validation_numbers(len(whole.labels), self._validation)
        with tf.device("CPU:0"):
            first, second = (
                Arrays(tf.gather(whole.images, n), tf.gather(whole.labels, n))
                for n in numbers
            )
        return first, second

    @remembered
    def read(self, split: str, shape: Shape, crop: float) -> Arrays:
        """The images of a split: bytes to train with, exact means to test with."""
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
        super().__init__(functools.partial(stored, name, data_dir), validation)
        self.name, self.class_names = name, BUILT_IN[name].class_names

    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """What the registry says; nothing is read for it."""
        found = built_in_info(self.name, self._validation)
        if size is None:
            return found
        return replace(found, image_shape=(*size, found.image_shape[2]))


def built_in_info(name: str, validation: float) -> DatasetInfo:
    """What the registry says, with a fraction of the training images held out."""
    found = BUILT_IN[name]
    if validation:
        train, held = map(len, validation_numbers(found.train_examples, validation))
        found = replace(found, train_examples=train, validation_examples=held)
    return found


def stored(name: str, data_dir: str | None, split: str) -> Arrays:
    """A split of a data set of some name, as it lies on the disk."""
    # On the host even if there is a GPU: batches are cut there, and only they travel.
    with tf.device("CPU:0"):
        if name == "digits":
            images, labels = _digits(split)
            return Arrays(tf.constant(images), tf.constant(labels))
        builder = prepared_builder(name, data_dir)
        # Files in their order on disk, so that an example keeps its index.
        with reading_records(name, builder.data_dir):
            found = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
            check_labels(found["label"].numpy(), BUILT_IN[name].classes)
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

    Of `limit` examples, classes differ by at most one as long as all have enough.
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
            raise ValueError(
                f"image_size={shape[:2]} does not apply to images of floats. Give them "
                "in this size, or as bytes."
            )
        return self.part(split)


def names_of(labels: Any) -> tuple[str, ...]:
    """Returns the numbers of the classes as names, if there are enough."""
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
