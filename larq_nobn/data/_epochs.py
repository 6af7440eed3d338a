"""The batches of an epoch, which depend on seed and epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ._augment import Transform, mixed, random_bits
from ._registry import DatasetInfo
from ._source import Source

# Takes the numbers of images; returns the images and their labels.
OfNumbers = Callable[["tf.Tensor"], "tuple[tf.Tensor, tf.Tensor]"]
# Replicas that get slices of each batch: the first one, their number, number of all.
Share = tuple[int, int, int]
WHOLE: Share = (0, 1, 1)


@dataclass(frozen=True, eq=False)
class Plan:
    """Decides which images each batch contains, by seed and epoch alone."""

    chosen: np.ndarray  # numbers of the images, in the order without shuffling
    batch_size: int
    seed: int
    shuffle: bool
    whole: bool  # drops a last batch that is not full

    @property
    def steps(self) -> int:
        count, size = len(self.chosen), self.batch_size
        return count // size if self.whole else -(-count // size)

    def numbers(self, epoch: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        """Returns the numbers of the images of an epoch, in batches from a step on."""
        size, order = self.batch_size, tf.constant(self.chosen)
        if self.shuffle:
            keys = random_bits(order.shape, (self.seed, 2 * epoch), tf.int64)
            order = tf.gather(order, tf.argsort(keys))

        def batch(step: tf.Tensor) -> tuple[tf.Tensor]:
            numbers = order[step * size : (step + 1) * size]
            return (tf.ensure_shape(numbers, (size if self.whole else None,)),)

        return tf.data.Dataset.range(start, self.steps).map(batch)


def of_epoch(
    source: Source, transform: Transform, info: DatasetInfo, seed: int, epoch: tf.Tensor
) -> OfNumbers:
    """Returns the function from image numbers to augmented, normalized images."""
    augments = transform.augment != "none"
    # Two random streams per epoch: the even one for the order, the odd one for draws.
    if augments:
        draws = transform.draw(source.length, (seed, 2 * epoch + 1), source.shape)
    if transform.mixes:
        mix = transform.draw_mix(source.length, (seed, epoch))

    def batch(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if augments:
            own = tf.gather(draws, numbers)
            images, labels = source.take(numbers, transform.regions(own))
            images = transform.vary(images, own)
        else:
            images, labels = source.take(numbers)
        if transform.mixes:
            mix_of = tf.gather(mix, numbers)
            images, labels = mixed(images, labels, mix_of, info.classes)
        return normalized(images, info), labels

    return batch


def cut(batches: tf.data.Dataset, share: Share) -> tf.data.Dataset:
    """Cuts batches into slices, one element for each replica that gets one."""
    first, count, replicas = share
    if share == WHOLE:
        return batches
    size = batches.element_spec[0].shape[0]
    even = None if size is None or size % replicas else size // replicas

    def of_batch(*batch: tf.Tensor) -> tf.data.Dataset:
        total = tf.shape(batch[0], tf.int64)[0]

        def slice_of(replica: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # If the batch is not full, some slices are smaller or empty.
            own = slice(replica * total // replicas, (replica + 1) * total // replicas)
            return tuple(tf.ensure_shape(x[own], (even, *x.shape[1:])) for x in batch)

        return tf.data.Dataset.range(first, first + count).map(slice_of)

    return batches.flat_map(of_batch)


def passes(
    source: Source,
    transform: Transform,
    plan: Plan,
    info: DatasetInfo,
    epoch: int,
    step: int,
    share: Share,
) -> tf.data.Dataset:
    """Returns batches whose n-th pass is the n-th epoch; the first one skips `step`.

    Only images of the share are read, but mixing needs the whole batch.
    """
    epochs = itertools.count(epoch)

    def number(_: tf.Tensor) -> tf.Tensor:
        # Counts when the first batch of a pass is read, not when its iterator is made:
        # Keras makes one iterator more than it uses.
        next_epoch = tf.numpy_function(lambda: np.int64(next(epochs)), [], tf.int64)
        return tf.ensure_shape(next_epoch, ())

    def one(number: tf.Tensor) -> tf.data.Dataset:
        start = tf.where(number == epoch, tf.constant(step, tf.int64), 0)
        batch = of_epoch(source, transform, info, plan.seed, number)
        numbers = plan.numbers(number, start)
        if transform.mixes:
            return cut(numbers.map(batch, tf.data.AUTOTUNE), share)
        return cut(numbers, share).map(batch, tf.data.AUTOTUNE)

    def pipeline() -> tf.data.Dataset:
        if step or plan.shuffle or transform != Transform():
            return tf.data.Dataset.from_tensors(0).map(number).flat_map(one)
        return one(tf.constant(epoch, tf.int64))

    # AutoGraph would need a second to read these functions, and change nothing.
    return tf.autograph.experimental.do_not_convert(pipeline)()


def normalized(images: tf.Tensor, info: DatasetInfo) -> tf.Tensor:
    """Returns normalized images, or the same images if their statistics are unknown."""
    images = tf.cast(images, tf.float32)
    if not info.mean:
        return images
    mean, std = np.array([info.mean, info.std], np.float32)
    return images * (1 / (255 * std)) - mean / std


def prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Reads two batches ahead, without tf.data's autotuner.

    The autotuner may not notice that an iterator was deleted, and then blocks its
    destructor, and with it the process, for up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)
