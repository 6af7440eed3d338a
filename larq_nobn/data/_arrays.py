"""Data sets small enough to stay in memory, as arrays of bytes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ._augment import Augmentation, crop_and_flip, draw
from ._tfds import DataDir, prepared_builder

Batches = Callable[[tf.Tensor], tf.data.Dataset]


@dataclass(frozen=True)
class Arrays:
    """One split, decoded.

    Arguments:
        images: (N, height, width, channels), uint8.
        labels: (N,), int64.
    """

    images: tf.Tensor
    labels: tf.Tensor


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


def batches_in_memory(
    data: Arrays,
    chosen: np.ndarray,
    batch_size: int,
    seed: int,
    variation: Augmentation | None,
    shuffle: bool,
    whole: bool,
) -> Batches:
    """Returns the function from an epoch's number to its batches of bytes.

    Arguments:
        data: The split.
        chosen: Indices of the examples to use, in the order without shuffling.
        batch_size: Examples per batch.
        seed: Makes, with the epoch and an example's index, all random choices.
        variation: What to do to the images; None for nothing.
        shuffle: Whether each epoch has an order of its own.
        whole: Whether to leave out a last batch that is not full.
    """
    steps = len(chosen) // batch_size if whole else -(-len(chosen) // batch_size)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        # Two streams per epoch: even numbers for the order, odd ones for the variation.
        order = tf.constant(chosen)
        if shuffle:
            keys = tf.random.stateless_uniform(
                order.shape, (seed, 2 * epoch), None, None, tf.int64, alg="philox"
            )
            order = tf.gather(order, tf.argsort(keys))
        if variation is not None:
            draws = draw(variation, len(data.labels), (seed, 2 * epoch + 1))

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = order[step * batch_size : (step + 1) * batch_size]
            if whole:
                indices = tf.ensure_shape(indices, (batch_size,))
            images = tf.gather(data.images, indices)
            if variation is not None:
                images = crop_and_flip(images, tf.gather(draws, indices), variation)
            return images, tf.gather(data.labels, indices)

        return tf.data.Dataset.range(steps).map(batch, tf.data.AUTOTUNE)

    return of_epoch
