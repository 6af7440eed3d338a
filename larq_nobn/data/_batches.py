"""The batches of an epoch, as a function of seed and epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ._augment import Transform, mixed, random_bits
from ._registry import DatasetInfo
from ._source import Source

# From the numbers of some images to these, and their labels.
OfNumbers = Callable[["tf.Tensor"], "tuple[tf.Tensor, tf.Tensor]"]
# The first of the replicas that are served, how many are, and how many there are.
Share = tuple[int, int, int]
WHOLE: Share = (0, 1, 1)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which images each batch has: a function of seed and epoch alone."""

    chosen: np.ndarray  # numbers of images, in the order without shuffling
    batch_size: int
    seed: int
    shuffle: bool
    whole: bool  # a last batch that is not full is left out

    @property
    def steps(self) -> int:
        """Number of batches of an epoch."""
        count, size = len(self.chosen), self.batch_size
        return count // size if self.whole else -(-count // size)

    def numbers(self, epoch: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        """The numbers of the images of each batch of an epoch, from a step on."""
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
    """Returns what makes an epoch's images, varied and normalized, of their numbers."""
    varies = transform.augment != "none"
    # Two streams per epoch: even numbers for the order, odd ones for the variation.
    if varies:
        draws = transform.draw(source.length, (seed, 2 * epoch + 1), source.shape)
    if transform.mixes:
        mix = transform.draw_mix(source.length, (seed, epoch))

    def batch(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if varies:
            own = tf.gather(draws, numbers)
            images, labels = source.take(numbers, transform.parts(own))
            images = transform.vary(images, own)
        else:
            images, labels = source.take(numbers)
        if transform.mixes:
            mix_of = tf.gather(mix, numbers)
            images, labels = mixed(images, labels, mix_of, info.classes)
        return normalized(images, info), labels

    return batch


def cut(batches: tf.data.Dataset, share: Share) -> tf.data.Dataset:
    """The parts of batches, one element for each replica that is served."""
    first, count, replicas = share
    if share == WHOLE:
        return batches
    size = batches.element_spec[0].shape[0]
    even = None if size is None or size % replicas else size // replicas

    def of_batch(*batch: tf.Tensor) -> tf.data.Dataset:
        there = tf.shape(batch[0], tf.int64)[0]

        def part(replica: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # A batch that is not full leaves some with less, or with nothing.
            own = slice(replica * there // replicas, (replica + 1) * there // replicas)
            return tuple(tf.ensure_shape(x[own], (even, *x.shape[1:])) for x in batch)

        return tf.data.Dataset.range(first, first + count).map(part)

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
    """Makes each pass the next epoch's batches; the first pass leaves out steps.

    Images are made of a share's numbers alone, but what is mixed needs its neighbors.
    """
    epochs = itertools.count(epoch)

    def number(_: tf.Tensor) -> tf.Tensor:
        # Asked when the first batch of a pass is needed, not when it is set up: Keras
        # sets up one iterator more than it uses.
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

    # AutoGraph would read the functions for a second, for nothing.
    return tf.autograph.experimental.do_not_convert(pipeline)()


def normalized(images: tf.Tensor, info: DatasetInfo) -> tf.Tensor:
    """Images of mean 0 and standard deviation 1, unless nobody knows what they have."""
    images = tf.cast(images, tf.float32)
    if not info.mean:
        return images
    mean, std = np.array([info.mean, info.std], np.float32)
    return images * (1 / (255 * std)) - mean / std


def prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Reads two batches ahead, on all cores, without a thread that would tune both.

    It can miss that an iterator ends, whose destructor then waits for its next round:
    up to a minute, while the process stands still.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)
