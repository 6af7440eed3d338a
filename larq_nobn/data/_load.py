"""Batches of a data set, ready for `fit` and `evaluate`."""

from __future__ import annotations

import itertools
import os

import numpy as np
import tensorflow as tf

from .._checks import check_bounds, check_choice, check_flag, check_integer
from . import _imagenet
from ._batches import WHOLE, Batches, Share, batches, cut, prefetched
from ._kept import CACHES
from ._labels import chosen_of, labelled
from ._open import ImageNet, Size, check_size, open_dataset
from ._registry import SPLITS, DatasetInfo
from ._tfds import DataDir
from .augment import AUGMENTATIONS, variation_of
from .given import Streams


def load(
    name: str | os.PathLike[str],
    split: str,
    batch_size: int,
    *,
    image_size: Size = None,
    augment: bool | str | None = None,
    reflect: bool = False,
    mixup: float = 0.0,
    shuffle: bool | None = None,
    seed: int = 0,
    epoch: int = 0,
    step: int = 0,
    share: Share = WHOLE,
    limit: int | None = None,
    holdout: float = 0.1,
    skip_unreadable: bool = False,
    like: DatasetInfo | None = None,
    cache: str = "auto",
    data_dir: DataDir = None,
    validation: float = 0.0,
) -> tf.data.Dataset:
    """Returns batches of (images, labels) of a data set.

    Images are float32 with mean 0 and standard deviation 1 per channel, labels are
    integers. What fits is decoded once and stays in memory.

    Each pass over the returned dataset is one epoch: the first pass is epoch `epoch`,
    the next one `epoch + 1`, and so on; a pass counts from its first batch. Order and
    augmentation of epoch e depend on `seed` and e only, so `load(..., epoch=e)`
    continues where an earlier run stopped before epoch e.

    A folder of pictures has a folder for each class, as `cats/1.jpg`, or two with such
    folders: `train` or `training`, and `test` or `testing`, in any case. Without a test
    split, `val`, `valid`, `validation` or `dev` is used for testing, and beside one it
    is the validation split. Files are JPEG, PNG, WebP, BMP or GIF, seen as `decode`
    does, and looked for in deeper folders too; hidden ones and other kinds are left
    out. Class names are those of the folders, sorted. What a file holds is found out
    once, and kept in the user's cache folder; mean and deviation are those of the
    training images.

    Arguments:
        name: `"digits"` (8x8 grey; comes with scikit-learn; every fifth example of each
            class is for testing), `"mnist"`, `"fashion_mnist"`, `"cifar10"`,
            `"cifar100"` or `"imagenet"`; the path of a folder of pictures; or
            `"tfds:NAME"` for any set of TensorFlow Datasets that classifies images.
        split: `"train"`, `"validation"` or `"test"`; for ImageNet, whose test labels
            are secret, the test split is the usual validation set.
        batch_size: Images per batch. The last incomplete batch is left out for
            `"train"` alone, where all batches have one shape. If there are fewer
            training images, they are one batch.
        image_size: Height and width, or one number for both: each picture's largest
            middle part of these proportions is scaled, by the mean of the pixels that a
            new one touches. None: that of the pictures if they all have one, of 224
            pixels at most, else 96x96. ImageNet has its own.
        augment: Variation of images, where None is the usual one in training and none
            in testing, and True the usual one. `"crop_flip"`: black borders of an
            eighth of the shorter side, a crop of the old size, and mirror images;
            without these it is the usual one for digits. `"colour"`: also brightness,
            contrast and saturation. `"strong"`: also turned by 15 degrees, magnified,
            and with a grey square. `"none"` or False: none. ImageNet: a random part
            scaled to 224x224 and mirrored, or nothing; without, the middle 7/8 of each
            side scaled to 224x224 by the mean of the pixels that a new one touches.
        reflect: Borders are mirror images instead of black; not for ImageNet, which has
            none.
        mixup: Mixes pairs of images by Beta(mixup, mixup); labels then are the
            probabilities of the classes. 0 for none.
        shuffle: New order in each epoch; None: in training only.
        seed: Decides order and augmentation; 0 or more.
        epoch: Number of the first pass; 0 or more.
        step: Batches that the first pass leaves out at its begin, without a look at
            their images; the length of the dataset is then not known.
        share: Of several replicas that train together: the number of the first that is
            served, how many are, and how many there are. Each of these gets its part of
            each batch, as an element of its own, and the others' parts are not read.
        limit: Use at most this many examples: the first of each class in equal numbers
            (ImageNet: simply the first). None: all.
        holdout: Share of the pictures of a folder that are for testing if no folder
            says so, from 0 to 1. The SHA-256 of a file decides, so that equal files are
            on one side, and all stay there when others are added.
        skip_unreadable: Whether to leave out files that cannot be read, and not to
            refuse a folder that holds some.
        like: Makes images what a network takes that was trained on another data set:
            of that size, number of channels, mean and deviation, with the labels of its
            class names. None: those of this data set.
        cache: Where decoded pictures of a folder are kept: `"memory"`, all at once;
            `"disk"`, as they are needed, in a file of the user's cache folder that ends
            with the process; `"none"`; or `"auto"`, the first of them that has room.
            Images are the same. What came with TensorFlow Datasets is in memory, but
            ImageNet, of which nothing is kept.
        data_dir: The data folder of TensorFlow Datasets; None for its default.
        validation: Fraction of the training images, in [0, 1), that make up the split
            `"validation"` instead: of folders and of TensorFlow Datasets by the content
            of files, elsewhere by a fixed permutation. 0 where the data set has such a
            split, or needs none.

    Returns:
        A `tf.data.Dataset` whose length is known.

    Raises:
        ValueError: If an argument is out of range, a folder holds files that cannot be
            read, or there is no image of the split.
        TypeError: If an argument has the wrong type.
        FileNotFoundError: If the data set is not prepared; says how to do that.

    Example:
        >>> train = nobn.data.load("digits", "train", batch_size=32)
        >>> train.element_spec[0].shape
        TensorShape([32, 8, 8, 1])
    """
    training = check_choice("split", split, SPLITS) == "train"
    batch_size = int(check_bounds("batch_size", batch_size))
    augment = training if augment is None else _check_augment(augment)
    check_flag("reflect", reflect)
    shuffle = training if shuffle is None else check_flag("shuffle", shuffle)
    check_bounds("mixup", mixup)
    seed = int(check_bounds("seed", seed))
    epoch = check_integer("epoch", epoch, 0, "Counting starts at 0.")
    step = check_integer("step", step, 0, "0 leaves out nothing.")
    if limit is not None:
        limit = int(check_bounds("limit", limit))
    check_choice("cache", cache, CACHES)
    size = check_size(image_size)
    dataset = open_dataset(name, holdout, skip_unreadable, data_dir, validation)
    if split == "validation" and not dataset.info(size).validation_examples:
        raise ValueError(
            f"{name} has no validation split. Hold out training images by "
            "validation=0.1 (--validation 0.1), or name another split."
        )
    if mixup and isinstance(dataset, (Streams, ImageNet)):
        raise ValueError(
            f"mixup={mixup} does not apply to {name}, whose images have no numbers. "
            "Leave it out."
        )
    if isinstance(dataset, Streams):
        if augment not in (True, False, "none"):
            raise ValueError(
                f"augment={augment!r} does not apply to a tf.data.Dataset. Leave it "
                "out, and map the data set."
            )
        dataset.info(size)
        found = cut(dataset.batches(split, batch_size), share)
        if step:
            found = found.skip(step * share[1]).concatenate(found.repeat())
        return prefetched(found)

    info = like or dataset.info(size)
    if isinstance(dataset, ImageNet):
        varies = _varies(augment, reflect)
        of_epoch, examples, batch_size = _imagenet.batches(
            split,
            limit,
            data_dir,
            batch_size,
            seed,
            varies,
            shuffle,
            share,
            info,
            validation,
        )
    else:
        data = labelled(dataset, split, info, cache)
        chosen = chosen_of(data, limit)
        examples = len(chosen)
        if not examples:
            raise ValueError(f"{name} has no image for split={split!r}. Add some.")
        if training:
            batch_size = min(batch_size, examples)
        variation = variation_of(augment, info.name, info.image_shape, reflect)
        of_epoch = batches(
            data,
            chosen,
            batch_size,
            seed,
            variation,
            shuffle,
            training,
            mixup,
            info.classes,
            share,
        )

    steps = examples // batch_size if training else -(-examples // batch_size)
    found = _passes(of_epoch, epoch, step, info)
    if not step:
        length = tf.data.experimental.assert_cardinality(steps * share[1])
        found = found.apply(length)
    return prefetched(found)


def normalized(images: tf.Tensor, info: DatasetInfo) -> tf.Tensor:
    """Images of mean 0 and deviation 1, unless nobody knows what they have."""
    images = tf.cast(images, tf.float32)
    if not info.mean:
        return images
    scale = 1 / (255 * np.array(info.std, np.float32))
    shift = np.array(info.mean, np.float32) / np.array(info.std, np.float32)
    return images * scale - shift


def _check_augment(augment: object) -> bool | str:
    if isinstance(augment, str):
        return check_choice("augment", augment, AUGMENTATIONS)
    return check_flag("augment", augment)


def _varies(augment: bool | str, reflect: bool) -> bool:
    """Whether ImageNet's images vary."""
    if reflect:
        raise ValueError(
            "reflect=True does not apply to imagenet, whose images are cropped and not "
            "padded. Leave it out."
        )
    if augment not in (True, False, "none"):
        raise ValueError(
            f"augment={augment!r} does not apply to imagenet, whose images are random "
            "parts of pictures. Leave it out, or name tfds:imagenet2012."
        )
    return augment is True


@tf.autograph.experimental.do_not_convert  # whose reading takes a second, for nothing
def _passes(
    batches: Batches, first: int, step: int, info: DatasetInfo
) -> tf.data.Dataset:
    """Makes each pass the next epoch's batches, counting from `first`, normalized."""
    numbers = itertools.count(first)

    def number(_: tf.Tensor) -> tf.Tensor:
        # Asked when the first batch of a pass is needed, not when it is set up: Keras
        # sets up one iterator more than it uses.
        epoch = tf.numpy_function(lambda: np.int64(next(numbers)), [], tf.int64)
        return tf.ensure_shape(epoch, ())

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        begin = tf.where(epoch == first, tf.constant(step, tf.int64), 0)
        return batches(epoch, begin)

    found = tf.data.Dataset.from_tensors(0).map(number).flat_map(of_epoch)
    return found.map(lambda x, y: (normalized(x, info), y), tf.data.AUTOTUNE)
