"""A data set: labeled images in splits, found by their numbers; and its batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .. import _checks, _names
from .._errors import InvalidType, InvalidValue
from . import _batches, _given, _images, _prepared
from ._augment import Transform
from ._batches import WHOLE, Share
from ._images import Images, opened
from ._mirror import why_not_mirrored
from ._registry import DatasetInfo
from ._source import Source, cached
from ._tfds import DataDir
from .folder import _folder

Size = int | tuple[int, int] | None
_VALIDATION = "[0, 1)", "0.1 holds out every tenth."
# The arguments of `open_dataset` that say which images are meant.
WHICH = (
    *("image_size", "channels", "holdout", "skip_unreadable", "data_dir"),
    "validation",
)


class Dataset:
    """Labeled images in splits, found by their numbers.

    `open_dataset` opens one by its name, `Dataset.from_data` takes arrays or `tf.data`.
    Nothing is read before it is needed.

    Example:
        ```python
        import larq_nobn as nobn

        digits = nobn.data.open_dataset("digits")
        print(digits.info.class_names, digits.labels("test")[:5])
        pixels = digits.read([0, 1], "test")  # (2, 8, 8, 1), from 0 to 255
        train = digits.batches("train", 32)
        ```
    """

    def __init__(
        self,
        images: Images,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> None:
        wanted = "images. Open them with open_dataset, or Dataset.from_data"
        self._images: Images = _checks.check_kind("images", images, Images, wanted)
        self._shape = _checks.check_size(size), channels
        if isinstance(images, _given.Streams):  # which have one shape
            images.info(*self._shape)

    @classmethod
    def from_data(
        cls,
        data: Any,
        *,
        image_size: Size = None,
        channels: int | None = None,
        validation: float = 0.0,
    ) -> Dataset:
        """Returns the data set of what a caller has.

        Arguments:
            data: (train, test) or (train, validation, test): each (images, labels) as
                arrays, bytes or normalized floats, or each a `tf.data.Dataset`. Labels
                are numbers of classes, or names in arrays.
            image_size: Height and width, or one number for both; None keeps them.
            channels: 1 or 3, as in `open_dataset`; None keeps them.
            validation: Fraction of the training images that make up the validation
                split.

        Raises:
            TypeError, ValueError: If `data` is something else.
        """
        _checks.check_number("validation", validation, *_VALIDATION)
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise InvalidType(
                f"data of type {type(data).__name__} is not a pair. Give (train, "
                "test) or (train, validation, test): each a tf.data.Dataset, or "
                "(images, labels)."
            )
        streams = [isinstance(part, tf.data.Dataset) for part in data]
        if any(streams) and not all(streams):
            raise InvalidType(
                "data contains a tf.data.Dataset beside arrays. Give all of one kind."
            )
        names = ("train", "validation", "test")[:: 2 if len(data) == 2 else 1]
        parts = dict(zip(names, data, strict=True))
        shape = _checks.check_size(image_size), _check_channels(channels)
        if not any(streams):
            return cls(_given.Given(parts, validation), *shape)
        if validation:
            raise InvalidValue(
                f"validation={validation} does not apply to a tf.data.Dataset. Give "
                "three: data=(train, validation, test)."
            )
        return cls(_given.Streams(parts), *shape)

    @cached_property
    def info(self) -> DatasetInfo:
        """Shape, classes, counts, mean and standard deviation."""
        return self._images.info(*self._shape)

    @property
    def fingerprint(self) -> str | None:
        """A digest of the images of a folder or of arrays; None of others."""
        return self._images.fingerprint

    @property
    def holdout(self) -> float | None:
        """The test fraction of an image folder without a test folder; else None."""
        return self._images.holdout

    def labels(self, split: str = "train") -> np.ndarray:
        """Returns the labels of a split, (N,) int64.

        Raises:
            ValueError: For ImageNet and `tf.data`, whose images have no numbers.
        """
        labels = self._numbered(split, self.info).labels
        if labels is None:
            raise InvalidValue(
                f"The classes of {self.info.name} are not counted, because that would "
                "need a pass over all images. Leave it out."
            )
        return labels.copy()

    def read(self, indices: Sequence[int], split: str = "train") -> np.ndarray:
        """Returns images by their numbers, (n, height, width, channels), 0 to 255.

        Training images are bytes; others are float32 where they are scaled. Arrays of
        floats come as they are.

        Raises:
            ValueError: As `labels` does.
            OSError: If an image cannot be read.
        """
        source = self._numbered(split, self.info)
        return source.take(tf.constant([*indices], tf.int64))[0].numpy()

    def class_counts(
        self, limit: int | None = None, split: str = "train"
    ) -> tuple[int, ...]:
        """Returns the number of images per class, of the first `limit` of a split."""
        labels = self.labels(split)
        labels = labels[_images.balanced_subset(labels, limit)]
        return tuple(np.bincount(labels, minlength=self.info.classes).tolist())

    def repeated(self, split: str) -> int:
        """Returns how many images of a split are training images, equal to the byte.

        0 for data sets with names and `tf.data`, where nobody looks.
        """
        training = {*self._images.digests("train")}
        return sum(each in training for each in self._images.digests(split))

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Heights and widths that images have, as far as they are known."""
        return self._images.sizes()

    @property
    def is_varied(self) -> bool:
        """Whether images are augmented at all: those of `tf.data` are not."""
        return not isinstance(self._images, _given.Streams)

    @cached_property
    def why_not_mirrored(self) -> str | None:
        """Says why `flip="auto"` mirrors none of the images; None if it does.

        They have one channel in their files, or classes are digits, letters, left or
        right by their names. Of color arrays whose classes are numbers, images say so
        themselves: mirrored ones of a class differ alike.
        """
        images, (*_, channels) = self._images, self._images.own_shape()
        source = None
        if images.nameless and channels > 1:
            source = images.read("train", self.info.image_shape, 1.0)
        return why_not_mirrored(channels, images.class_names, source)

    def files(
        self, split: str, limit: int | None = None, like: DatasetInfo | None = None
    ) -> tuple[str, ...] | None:
        """Returns the files of a folder's images, in the order of `batches` in tests.

        None for what is not an image folder.
        """
        split = _names.check_split(split)
        if (files := self._images.files(split)) is None:
            return None
        chosen = _chosen(self._numbered(split, like or self.info), limit)
        return tuple(files[n] for n in chosen)

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        augment: bool | str | None = None,
        flip: str = "auto",
        reflect: bool = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        shuffle: bool | None = None,
        seed: int = 0,
        epoch: int = 0,
        step: int = 0,
        share: Share = WHOLE,
        limit: int | None = None,
        like: DatasetInfo | None = None,
        cache: str = "auto",
    ) -> tf.data.Dataset:
        """Returns batches of normalized images and labels.

        Images are float32 with mean 0 and standard deviation 1 per channel, labels are
        integers. What fits is decoded once and stays in memory.

        Each pass over the returned dataset is one epoch: the first pass is epoch
        `epoch`, the next one `epoch + 1`, and so on; a pass counts from its first
        batch. Order and augmentation of epoch e depend on `seed` and e only, so that
        `epoch=e` continues where an earlier run stopped before epoch e.

        Arguments:
            split: `"train"`, `"validation"` or `"test"`, or another usual name of one,
                such as `"val"`; for ImageNet, whose test labels are secret, the test
                split is the usual validation set.
            batch_size: Images per batch. The last incomplete batch is left out for
                `"train"` alone, where all batches have one shape. If there are fewer
                training images, they are one batch.
            augment: Variation of images, where None is the usual one in training and
                none in testing, and True the usual one: `"random_resized_crop"` for
                ImageNet, else `"standard"`. `"crop"`: zero padding of an eighth of the
                shorter side, and a crop of the old size. `"standard"`: also mirror
                images. `"strong"`: also brightness, contrast and saturation, turned by
                15 degrees, magnified, and with a gray square. `"randaugment"`: after
                the standard one, two random operations of RandAugment.
                `"random_resized_crop"`: 8 to 100 % of the image in the size of all,
                read from files in full, and mirror images. `"none"` or False: none.
            flip: `"horizontal"` mirrors half of the images, `"none"` none, and
                `"auto"` is the first, but for `"crop"` and where `why_not_mirrored`.
            reflect: Pixels that padding adds mirror the image, and are not black.
            mixup: Mixes pairs of images by Beta(mixup, mixup); labels then are the
                probabilities of the classes. 0 for none.
            cutmix: Puts a part of one image into another, by Beta(cutmix, cutmix);
                likewise. With both, half of the images get either.
            shuffle: New order in each epoch; None: in training only.
            seed: Decides order and augmentation; 0 or more.
            epoch: Number of the first pass; 0 or more.
            step: Batches that the first pass leaves out at its start, without a look at
                their images; the length of the dataset is then not known.
            share: Of several replicas that train together: the number of the first that
                is served, how many are, and how many there are. Each of these gets its
                part of each batch, as an element of its own, and the others' parts are
                not read.
            limit: Use at most this many examples: the first of each class in equal
                numbers (ImageNet and `tf.data`: simply the first). None: all.
            like: Makes images what a network takes that was trained on another data
                set: of that size, number of channels, mean and standard deviation, with
                the labels of its class names. None: those of this data set.
            cache: Where decoded images of a folder, or of `"tfds:NAME"`, are kept:
                `"memory"`, all at once; `"disk"`, as they are needed, in a file of the
                user's cache folder that ends with the process; `"none"`; or `"auto"`,
                the first of them that has room. Images are the same. The data sets with
                names of their own are in memory, but ImageNet, of which nothing is
                kept.

        Returns:
            A `tf.data.Dataset` whose length is known.

        Raises:
            ValueError: If an argument is out of range or does not apply to these
                images, or there is no image of the split.
            TypeError: If an argument has the wrong type.
        """
        split = self._check_split(split)
        training = split == "train"
        bounded = {"batch_size": batch_size, "mixup": mixup, "cutmix": cutmix}
        for name, number in {**bounded, "seed": seed}.items():
            _checks.check_bounds(name, number)
        if limit is not None:
            _checks.check_bounds("limit", limit)
        _checks.check_integer("epoch", epoch, 0, "Counting starts at 0.")
        _checks.check_integer("step", step, 0, "0 leaves out nothing.")
        _checks.check_choice("cache", cache, _names.CACHES)
        _checks.check_choice("flip", flip, _names.FLIPS)
        images = self._images
        if isinstance(images, _given.Streams):
            given = {"mixup": mixup, "cutmix": cutmix, "shuffle": shuffle}
            given["augment"] = augment not in (None, True, False, "none")
            given["flip"] = flip == "horizontal"
            given["like"] = like not in (None, self.info)
            if unfit := [name for name in given if given[name]]:
                raise InvalidValue(
                    f"{unfit[0]} does not apply to a tf.data.Dataset. Leave it out, "
                    "and map the data set."
                )
            return images.batches(split, batch_size, share, step, limit)
        if augment is None and not training:
            augment = "none"
        transform = self.transform(augment, flip, reflect, mixup, cutmix)
        info = like or self.info
        # Parts are of files as they are, not of what is kept.
        if transform.augment == "random_resized_crop":
            cache = "none"
        source = self._numbered(split, info, cache)
        chosen = _chosen(source, limit)
        if not len(chosen):
            raise InvalidValue(
                f"{images.name} has no image for split={split!r}. Add "
                "some, or choose another split."
            )
        if training:
            batch_size = min(batch_size, len(chosen))
        shuffle = training if shuffle is None else shuffle
        plan = _batches.Plan(chosen, batch_size, seed, shuffle, training)
        batches = _batches.passes(source, transform, plan, info, epoch, step, share)
        if not step:
            length = tf.data.experimental.assert_cardinality(plan.steps * share[1])
            batches = batches.apply(length)
        return _batches.prefetched(batches)

    def transform(
        self,
        augment: bool | str | None = None,
        flip: str = "auto",
        reflect: bool = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> Transform:
        """Returns how training images are varied; arguments as in `batches`."""
        if augment in (None, True):
            imagenet = self._images.name == "imagenet"
            augment = "random_resized_crop" if imagenet else "standard"
        kind = _checks.check_choice("augment", augment or "none", _names.AUGMENTATIONS)
        mirrors = flip == "horizontal"
        if mirrors and kind == "none":
            raise InvalidValue(
                "flip='horizontal' does not go with augment='none': nothing would be "
                "mirrored. Leave it out, or choose crop or standard."
            )
        if flip == "auto" and kind not in ("none", "crop"):
            mirrors = self.why_not_mirrored is None
        of_pixels = kind in ("strong", "randaugment")
        if of_pixels and len(self.info.mean) not in (1, 3):
            raise InvalidValue(
                f"augment={kind!r} is for bytes of 1 or 3 channels. Give such images, "
                "or choose standard."
            )
        return Transform(kind, mirrors, reflect, mixup, cutmix)

    def _check_split(self, name: str) -> str:
        """Returns the split that a usual name means, if there is one."""
        split = _names.check_split(name)
        if split == "validation" and not self.info.validation_examples:
            raise InvalidValue(
                f"{self._images.name} has no validation split. Hold out training "
                "images by validation=0.1 (--validation 0.1), or name another split."
            )
        return split

    def _numbered(self, split: str, info: DatasetInfo, cache: str = "none") -> Source:
        """The images of a split by number, with the shape and labels of `info`."""
        split = self._check_split(split)
        source = self._images.read(split, info.image_shape, info.crop)
        source = cached(source, cache)
        names = () if self._images.nameless else self._images.class_names
        return _relabeled(source, names, info)


def _chosen(source: Source, limit: int | None) -> np.ndarray:
    """The numbers of the images that are used."""
    if source.labels is None:
        return np.arange(source.length)[:limit]
    return _images.balanced_subset(source.labels, limit)


def _relabeled(source: Source, ours: tuple[str, ...], info: DatasetInfo) -> Source:
    """Returns the images with the labels of a data set of the same class names."""
    theirs = info.class_names
    if ours == theirs or not ours or not theirs or source.labels is None:
        return source
    there = sorted({ours[label] for label in source.labels})
    if unknown := [name for name in there if name not in theirs]:
        raise InvalidValue(
            f"The images are of {len(unknown)} classes that are not among those of "
            f"{info.name}: {_folder.first_few(unknown)}, where it knows "
            f"{_folder.first_few(theirs)}. Choose images of these."
        )
    places = [theirs.index(name) if name in theirs else -1 for name in ours]
    return replace(source, labels=np.array(places, np.int64)[source.labels])


def batches_of(
    part: Any, info: DatasetInfo | None, batch_size: int = 128
) -> tf.data.Dataset:
    """Returns batches of (images, labels) of a caller, as a network takes them.

    Bytes are prepared as the images of `info` were; names are those of its classes.
    """
    images = _given.Given({"test": part, "train": part}, few=True)
    if images.normalized:
        info = info and replace(info, mean=(), std=())
    elif info is None or not info.mean:
        raise InvalidValue(
            "The model does not say how bytes are normalized for it. Give floats, "
            "normalized as in its training, or what data.load returns."
        )
    return Dataset(images).batches("test", batch_size, like=info)


def _check_channels(channels: int | None) -> int | None:
    if channels is None:
        return None
    if isinstance(channels, bool) or channels not in (1, 3):
        raise InvalidValue(f"channels={channels!r} is neither 1 nor 3. Choose one.")
    return int(channels)


def open_dataset(
    name: str | os.PathLike[str],
    *,
    image_size: Size = None,
    channels: int | None = None,
    holdout: float = 0.1,
    skip_unreadable: bool = False,
    data_dir: DataDir = None,
    validation: float = 0.0,
) -> Dataset:
    """Opens a data set, of which as little is read as can be.

    A folder of images has a folder for each class, as `cats/1.jpg`, or two with such
    folders: `train` or `training`, and `test` or `testing`, in any case. Without a test
    split, `val`, `valid`, `validation` or `dev` is used for testing, and beside one it
    is the validation split. Files are JPEG, PNG, WebP, BMP or GIF, seen as `decode`
    does, and looked for in deeper folders too; hidden ones and other kinds are left
    out. Class names are those of the folders, sorted. What a file contains is found out
    once, and kept in the user's cache folder; mean and standard deviation are those of
    the training images.

    Arguments:
        name: `"digits"` (8x8 gray; comes with scikit-learn; every fifth example of each
            class is for testing), `"mnist"`, `"fashion_mnist"`, `"cifar10"`,
            `"cifar100"` or `"imagenet"`; the path of a folder of images; or
            `"tfds:NAME"` for any set of TensorFlow Datasets that classifies images.
        image_size: Height and width, or one number for both: each image's largest
            middle part of these proportions is scaled, by the mean of the pixels that a
            new one touches. None: that of the images if they all have one, of 224
            pixels at most, else 96x96.
        channels: 3 makes three equal channels of gray images, 1 the brightness of
            colors. None: gray if all images are.
        holdout: Fraction of the images of a folder that are for testing if no folder
            says so, from 0 to 1. The SHA-256 of a file decides, so that equal files are
            on one side, and all stay there when others are added.
        skip_unreadable: Whether to leave out files that cannot be read, and not to
            reject a folder that contains some.
        data_dir: The data folder of TensorFlow Datasets; None for its default.
        validation: Fraction of the training images, in [0, 1), that make up the split
            `"validation"` instead: of folders and of TensorFlow Datasets by the content
            of files, elsewhere by a fixed permutation. 0 where the data set has such a
            split, or needs none.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or a folder contains files that
            cannot be read; for an unknown name, with the known ones.
        FileNotFoundError: If there is no such folder, or the data set is not prepared;
            says how to do that.

    Example:
        >>> nobn.data.open_dataset("digits").labels("test").shape
        (355,)
    """
    chosen = _names.check_dataset("name", name)
    _checks.check_number("holdout", holdout, *_folder.HOLDOUT)
    _checks.check_flag("skip_unreadable", skip_unreadable)
    _checks.check_number("validation", validation, *_VALIDATION)
    channels = _check_channels(channels)
    size = _checks.check_size(image_size)
    place = None if data_dir is None else _checks.check_path("data_dir", data_dir)
    if chosen in _names.DATASETS:
        kind = _prepared.ImageNet if chosen == "imagenet" else _images.BuiltIn
        images = opened(kind, chosen, place, validation)
    elif chosen == _names.GIVEN:
        raise InvalidValue(
            "The images were given to train as data=, and are stored nowhere. Name a "
            "data set or a folder of images instead, as by --dataset."
        )
    elif chosen.startswith(_names.TFDS_PREFIX):
        images = opened(_prepared.AnyTfds, chosen, holdout, place, validation)
    else:
        listing = _folder.read_listing(Path(chosen))
        given = listing, holdout, skip_unreadable, validation, size
        images = opened(_folder.Folder, *given)
    return Dataset(images, size, channels)


def load(
    name: str | os.PathLike[str], split: str, batch_size: int, **how: Any
) -> tf.data.Dataset:
    """Returns batches of (images, labels) of a data set.

    That is `open_dataset(name, …).batches(split, batch_size, …)`, where further
    arguments are described.

    Arguments:
        name: As in `open_dataset`.
        split: As in `Dataset.batches`.
        batch_size: Likewise.
        **how: Further arguments of `open_dataset`, and of `Dataset.batches`.

    Returns:
        A `tf.data.Dataset` whose length is known.

    Raises:
        TypeError, ValueError, FileNotFoundError: As these two do.

    Example:
        >>> train = nobn.data.load("digits", "train", batch_size=32)
        >>> train.element_spec[0].shape
        TensorShape([32, 8, 8, 1])
    """
    which = {key: how.pop(key) for key in WHICH if key in how}
    return open_dataset(name, **which).batches(split, batch_size, **how)


def classified_images(
    model: Any,
    dataset: str | os.PathLike[str] | DatasetInfo,
    input_shape: Sequence[int] | None = None,
) -> tuple[DatasetInfo, Dataset | None]:
    """Opens the data set that a Keras model classifies, in the size that it takes.

    Of a description there are no images. The shape is that of an image where the model
    leaves it open.
    """
    taken, classes = _shapes(model)
    shape = input_shape or taken
    if isinstance(dataset, DatasetInfo):
        source, info = None, dataset
    else:
        known = len(shape) == 3 and None not in shape
        size = tuple(shape[:2]) if known else None
        # Of a set with a name, other channels are a mistake.
        own = not known or shape[2] not in (1, 3) or dataset in _names.DATASETS
        channels = None if own else shape[2]
        source = open_dataset(dataset, image_size=size, channels=channels)
        info = source.info
    if not classifies(model, info, shape):
        raise InvalidValue(
            f"dataset={info.name!r} has {info.classes} classes of images of "
            f"{info.image_shape}, but the model maps {tuple(shape)} to {classes}. Pass "
            "the data set that it was trained on, or none."
        )
    return info, source


def classifies(
    model: Any, info: DatasetInfo, input_shape: Sequence[int] | None = None
) -> bool:
    """Whether a Keras model maps images of a data set to its classes."""
    taken, classes = _shapes(model)
    shape = tuple(input_shape or taken)
    return (shape, classes) == (tuple(info.image_shape), (info.classes,))


def _shapes(model: Any) -> tuple[tuple, tuple]:
    """Input and output of one example; empty where unknown, or of several."""
    shapes = (getattr(model, f"{end}_shape", None) for end in ("input", "output"))
    taken, given = (x[1:] if isinstance(x, tuple) else () for x in shapes)
    return taken, given
