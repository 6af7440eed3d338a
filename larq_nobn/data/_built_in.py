"""The built-in data sets that fit in memory, as arrays of bytes."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from ._registry import DatasetInfo, built_in
from ._source import Arrays, Source, of_shape, part_of, validation_numbers
from ._tfds import DataDir, prepared_builder


@dataclass(frozen=True)
class BuiltIn:
    """One of `NAMES` but ImageNet, in memory."""

    name: str
    data_dir: str | None
    validation: float

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the registry."""
        return built_in(self.name).class_names

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What the registry says."""
        found = built_in(self.name)
        if self.validation:
            parts = validation_numbers(found.train_examples, self.validation)
            train, held = map(len, parts)
            found = replace(found, train_examples=train, validation_examples=held)
        if size is None:
            return found
        return replace(found, image_shape=(*size, found.image_shape[2]))

    def source(
        self, split: str, shape: tuple[int, int, int], crop: float = 1.0
    ) -> Source:
        """The images, which a process reads once."""
        return resized(self.name, split, self.data_dir, shape, crop, self.validation)


def arrays(name: str, split: str, data_dir: DataDir) -> Arrays:
    """Returns one split; the second call in a process returns the same tensors."""
    return _cached(name, split, None if data_dir is None else os.fspath(data_dir))


@functools.lru_cache(maxsize=4)
def _cached(name: str, split: str, data_dir: str | None) -> Arrays:
    # On the host even if there is a GPU: batches are cut there, and only they travel.
    with tf.device("CPU:0"):
        if name == "digits":
            images, labels = _digits(split)
            return Arrays(tf.constant(images), tf.constant(labels))
        builder = prepared_builder(name, data_dir)
        # Files in their order on disk, so that an example keeps its index.
        split_data = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
        return Arrays(split_data["image"], split_data["label"])


def resized(
    name: str,
    split: str,
    data_dir: str | None,
    shape: tuple[int, int, int],
    crop: float,
    validation: float,
) -> Arrays:
    """The same as images of another shape: bytes to train with, means to test with."""
    if split == "test" or not validation:
        found = _cached(name, split, data_dir)
    else:
        found = _without_the_other(name, split, data_dir, validation)
    if found.images.shape[1:] == shape and crop == 1:
        return found
    return _resized(name, split, data_dir, shape, crop, validation)


@functools.lru_cache(maxsize=4)
def _without_the_other(
    name: str, split: str, data_dir: str | None, validation: float
) -> Arrays:
    """Training images without those for validation, or those alone."""
    whole = _cached(name, "train", data_dir)
    parts = validation_numbers(len(whole.labels), validation)
    with tf.device("CPU:0"):
        return part_of(whole, parts[split == "validation"])


@functools.lru_cache(maxsize=4)
def _resized(
    name: str,
    split: str,
    data_dir: str | None,
    shape: tuple[int, int, int],
    crop: float,
    validation: float,
) -> Arrays:
    own = _cached(name, split if split == "test" else "train", data_dir)
    found = resized(name, split, data_dir, own.images.shape[1:], 1.0, validation)
    return of_shape(found, split, shape, crop)


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


def balanced_subset(labels: np.ndarray, limit: int) -> np.ndarray:
    """Returns the indices of the first examples of each class, in rising order.

    Arguments:
        labels: (N,) integers.
        limit: How many to take; classes differ by at most one example as long as all
            have enough.
    """
    order = np.lexsort((labels, _rank_in_class(labels)))
    return np.sort(order[:limit])


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """How many earlier examples have the same label."""
    rank = np.empty_like(labels)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        rank[places] = np.arange(len(places))
    return rank
