"""Batches of a data set, ready for `fit` and `evaluate`."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import tensorflow as tf

from .._checks import check_choice, check_flag, check_integer
from . import _imagenet
from ._arrays import Batches, arrays, balanced_subset, batches_in_memory
from ._augment import Augmentation
from ._registry import NAMES, SPLITS, describe
from ._tfds import DataDir

# Digits have no mirror images, and 8 x 8 pixels no room for four more.
_AUGMENTATIONS = {
    "digits": Augmentation(pad=1, flip=False),
    "mnist": Augmentation(pad=4, flip=False),
}
_STANDARD = Augmentation(pad=4, flip=True)


def load(
    name: str,
    split: str,
    batch_size: int,
    *,
    augment: bool | None = None,
    reflect: bool = False,
    shuffle: bool | None = None,
    seed: int = 0,
    epoch: int = 0,
    limit: int | None = None,
    data_dir: DataDir = None,
) -> tf.data.Dataset:
    """Returns batches of (images, labels) of a data set.

    Images are float32 with mean 0 and standard deviation 1 per channel, labels are
    integers. All but ImageNet are decoded once and stay in memory as bytes.

    Each pass over the returned dataset is one epoch: the first pass is epoch `epoch`,
    the next one `epoch + 1`, and so on; a pass counts from its first batch. Order and
    augmentation of epoch e depend on `seed` and e only, so `load(..., epoch=e)`
    continues where an earlier run stopped before epoch e.

    Arguments:
        name: `"digits"` (8x8 grey; comes with scikit-learn; every fifth example of each
            class is for testing), `"mnist"`, `"fashion_mnist"`, `"cifar10"`,
            `"cifar100"` or `"imagenet"`.
        split: `"train"` or `"test"`; for ImageNet, whose test labels are secret, the
            test split is the usual validation set.
        batch_size: Images per batch. The last incomplete batch is kept for `"test"` and
            left out for `"train"`, where all batches have one shape.
        augment: Random crops and mirror images; None: in training only. Pads by 4 black
            pixels and crops; mirrors, except digits; 8x8 digits are padded by 1.
            ImageNet: a random part scaled to 224x224 and mirrored, against shorter side
            256 and centre 224x224 without.
        reflect: Pads by mirror images of the border instead of black pixels; not for
            ImageNet, which is not padded.
        shuffle: New order in each epoch; None: in training only.
        seed: Decides order and augmentation; 0 or more.
        epoch: Number of the first pass; 0 or more.
        limit: Use at most this many examples: the first of each class in equal numbers
            (ImageNet: simply the first). None: all.
        data_dir: The data folder of TensorFlow Datasets; None for its default.

    Returns:
        A `tf.data.Dataset` whose length is known.

    Raises:
        ValueError: If an argument is out of range, or training images do not fill a
            batch.
        TypeError: If an argument has the wrong type.
        FileNotFoundError: If the data set is not prepared; says how to do that.

    Example:
        >>> train = nobn.data.load("digits", "train", batch_size=32)
        >>> train.element_spec[0].shape
        TensorShape([32, 8, 8, 1])
    """
    info = describe(check_choice("name", name, NAMES))
    training = check_choice("split", split, SPLITS) == "train"
    batch_size = check_integer("batch_size", batch_size, 1, "Common values: 32 to 512.")
    augment = training if augment is None else check_flag("augment", augment)
    check_flag("reflect", reflect)
    shuffle = training if shuffle is None else check_flag("shuffle", shuffle)
    seed = check_integer("seed", seed, 0, "Any such number will do.")
    epoch = check_integer("epoch", epoch, 0, "Counting starts at 0.")
    if limit is not None:
        limit = check_integer("limit", limit, 1, "Leave it out to use all examples.")

    if name == "imagenet":
        if reflect:
            raise ValueError(
                "reflect=True does not apply to imagenet, whose images are cropped and "
                "not padded. Leave it out."
            )
        jpegs = _imagenet.jpegs(split, limit, data_dir)
        examples = int(jpegs.cardinality())
        batches = _imagenet.batches(jpegs, batch_size, seed, augment, shuffle, training)
    else:
        data = arrays(name, split, data_dir)
        chosen = np.arange(len(data.labels))
        if limit is not None:
            chosen = balanced_subset(data.labels.numpy(), limit)
        examples = len(chosen)
        variation = replace(_AUGMENTATIONS.get(name, _STANDARD), reflect=reflect)
        batches = batches_in_memory(
            data,
            chosen,
            batch_size,
            seed,
            variation if augment else None,
            shuffle,
            training,
        )

    steps = examples // batch_size if training else -(-examples // batch_size)
    if steps == 0:
        raise ValueError(
            f"batch_size={batch_size} exceeds the {examples} training examples of "
            f"{name}, and training leaves out incomplete batches. Use at most "
            f"{examples}."
        )
    scale = 1 / (255 * np.array(info.std, np.float32))
    shift = np.array(info.mean, np.float32) / np.array(info.std, np.float32)
    return (
        _passes(batches, epoch)
        .map(lambda x, y: (tf.cast(x, tf.float32) * scale - shift, y), tf.data.AUTOTUNE)
        .apply(tf.data.experimental.assert_cardinality(steps))
        .prefetch(tf.data.AUTOTUNE)
    )


def _passes(batches: Batches, first: int) -> tf.data.Dataset:
    """Makes each pass the batches of the next epoch, counting from `first`."""
    numbers = itertools.count(first)

    def number(_: tf.Tensor) -> tf.Tensor:
        # Asked when the first batch of a pass is needed, not when it is set up: Keras
        # sets up one iterator more than it uses.
        epoch = tf.numpy_function(lambda: np.int64(next(numbers)), [], tf.int64)
        return tf.ensure_shape(epoch, ())

    return tf.data.Dataset.from_tensors(0).map(number).flat_map(batches)
