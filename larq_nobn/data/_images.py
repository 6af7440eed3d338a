"""Labeled images in splits: the base class of all sources, and those in memory."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from .._checks import check_bounds
from .._errors import InvalidValue, needing
from ._area import scaled
from ._registry import BUILT_IN, DatasetInfo
from ._source import Source, Statistics, cached, numbers_of, statistics
from ._tfds import prepared_builder

Shape = tuple[int, int, int]
Size = tuple[int, int] | None
_Method = TypeVar("_Method", bound=Callable[..., Any])
# Side that images of different sizes get, and side from which a size counts as large.
_USUAL_SIDE = 96
_LARGEST_SIDE = 224


def cached_method(method: _Method) -> _Method:
    """Decorates a method to cache its results by arguments."""

    @functools.wraps(method)
    def cached(self: Any, *arguments: Hashable) -> Any:
        results = vars(self).setdefault("_results", {})
        key = (method.__name__, *arguments)
        if key not in results:
            results[key] = method(self, *arguments)
        return results[key]

    return cached  # type: ignore[return-value]


@functools.lru_cache(maxsize=8)
def opened(kind: Callable[..., Images], *arguments: Hashable) -> Images:
    """Returns the same object for the same arguments, so that images are read once."""
    return kind(*arguments)


class Images(ABC):
    """Labeled images in splits, found by their numbers."""

    name: str
    class_names: tuple[str, ...] = ()
    nameless = False  # True if classes have only numbers
    holdout: float | None = None
    fingerprint: str | None = None

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Returns the number of images of each split."""

    @abstractmethod
    def own_shape(self) -> Shape:
        """Returns the shape that images get if no other is asked for."""

    @abstractmethod
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        """Returns the images of a split: bytes for training, else means as float32."""

    def statistics(self, shape: Shape) -> Statistics:
        """Returns mean and standard deviation of the training images."""
        return statistics(cached(self.read("train", shape, 1.0), "auto"))

    @cached_method
    def info(self, size: Size, channels: int | None) -> DatasetInfo:
        """Returns the description of the images, in this size or their own."""
        (*own, own_channels), counts = self.own_shape(), self.counts()
        shape = (*(size or own), channels or own_channels)
        return DatasetInfo(
            *(self.name, shape, len(self.class_names), self.class_names),
            *(counts["train"], counts["test"], *self.statistics(shape)),
            validation_examples=counts.get("validation", 0),
            holdout=self.holdout,
        )

    def sizes(self) -> set[tuple[int, int]]:
        """Returns the heights and widths of the stored images, as far as known."""
        return {self.own_shape()[:2]}

    def files(self, split: str) -> list[str] | None:
        """Returns the files of the images of a split, if each has one."""
        return None

    def digests(self, split: str) -> list[str]:
        """Returns a digest per image of a split; none if contents are not known."""
        return []

    def check_division(self, validation: float, splits: Collection[str | None]) -> None:
        """Rejects a validation fraction if there is a validation split already."""
        if validation and "validation" in splits:
            raise InvalidValue(
                f"{self.name} contains a validation split, so validation={validation} "
                "does not apply. Leave it out (--validation)."
            )


class InMemory(Images):
    """Images in memory; a fraction of the training images may be for validation."""

    validation: float

    @abstractmethod
    def whole(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels of a stored split."""

    @cached_method
    def used(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels of a split, once validation images are held out."""
        if not self.validation or split == "test":
            return self.whole(split)
        images, labels = self.whole("train")
        numbers = numbers_of(split, len(labels), self.validation)
        return images[numbers], labels[numbers]

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        images, labels = self.used(split)
        if images.shape[1:] != shape or crop != 1:
            images = scaled(images, shape[:2], shape[2], crop)
            images = np.rint(images).astype(np.uint8) if split == "train" else images
        return Source.of_arrays(images, labels)


class BuiltIn(InMemory):
    """One of `NAMES`, described by the registry before anything is read."""

    def __init__(self, name: str, data_dir: str | None, validation: float) -> None:
        self.name, self._data_dir, self.validation = name, data_dir, validation
        self._info = BUILT_IN[name]
        self.class_names = self._info.class_names

    def counts(self) -> Mapping[str, int]:
        whole, test = self._info.train_examples, self._info.test_examples
        held = round(self.validation * whole)
        return {"train": whole - held, "validation": held, "test": test}

    def own_shape(self) -> Shape:
        return self._info.image_shape

    def statistics(self, shape: Shape) -> Statistics:
        if shape[2] != self._info.image_shape[2]:
            return super().statistics(shape)
        return self._info.mean, self._info.std

    def info(self, size: Size, channels: int | None) -> DatasetInfo:
        info = super().info(size, channels)
        return replace(info, classes=self._info.classes, crop=self._info.crop)

    @cached_method
    def whole(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        if self.name == "digits":
            return _digits(split)
        builder = prepared_builder(self.name, self._data_dir)
        with tf.device("CPU:0"):
            # Files in their order on disk, so that the index of an example is fixed.
            data = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
            return data["image"].numpy(), data["label"].numpy()


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split: every fifth example of each class is for testing.

    The set lists its writers one after the other, so both splits contain all of them.
    """
    with needing("digits comes with scikit-learn", "data"):
        from sklearn.datasets import load_digits
    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    chosen = (_rank_in_class(labels) % 5 == 4) == (split == "test")
    gray = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # they are 0 to 16
    return gray[chosen][..., np.newaxis], labels[chosen]


def suitable(sizes: Iterable[Sequence[int]]) -> tuple[int, int]:
    """Returns the common size if there is one of 224 pixels at most, else 96x96."""
    different = {*map(tuple, sizes)}
    if len(different) != 1 or max(max(different)) > _LARGEST_SIDE:
        return _USUAL_SIDE, _USUAL_SIDE
    height, width = different.pop()
    return height, width


def balanced_subset(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Returns the indices of `limit` examples, in rising order.

    They are the first ones of each class, in equal numbers up to a difference of one,
    as long as each class has enough.
    """
    if limit is None:
        return np.arange(len(labels))
    check_bounds("limit", limit)
    return np.sort(np.lexsort((labels, _rank_in_class(labels)))[:limit])


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Returns, for each example, how many earlier ones have the same label."""
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels, labels[order], sorter=order)
    rank = np.empty_like(labels)
    rank[order] = np.arange(len(labels)) - first
    return rank
