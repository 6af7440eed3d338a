"""The batches of an epoch, as a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ._source import Source
from .augment import Augmentation, draw, mixed, shares, varied

Batches = Callable[[tf.Tensor], tf.data.Dataset]


def batches(
    data: Source,
    chosen: np.ndarray,
    batch_size: int,
    seed: int,
    variation: Augmentation | None,
    shuffle: bool,
    whole: bool,
    mixup: float = 0.0,
    classes: int = 0,
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
        mixup: Parameter of Beta(α, α), by which images are mixed; 0 for none.
        classes: Their number, if images are mixed.
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
        if mixup:
            share = shares(mixup, len(data.labels), (seed, epoch))

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = order[step * batch_size : (step + 1) * batch_size]
            if whole:
                indices = tf.ensure_shape(indices, (batch_size,))
            images = data.take(indices)
            if variation is not None:
                images = varied(images, tf.gather(draws, indices), variation)
            labels = tf.gather(data.labels, indices)
            if not mixup:
                return images, labels
            return mixed(images, labels, tf.gather(share, indices), classes)

        return tf.data.Dataset.range(steps).map(batch, tf.data.AUTOTUNE)

    return of_epoch
