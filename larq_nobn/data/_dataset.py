"""`Dataset`: labeled images in splits, found by their numbers, and their batches."""

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
from . import _epochs, _tfds_images, _user_images
from ._augment import Transform
from ._epochs import WHOLE, Share
from ._images import BuiltIn, Images, balanced_subset, opened
from ._mirror import why_not_mirrored
from ._registry import DatasetInfo
from ._source import Source, cached
from ._tfds import DataDir
from .folder import _folder

Size = int | tuple[int, int] | None
_VALIDATION = "[0, 1)", "0.1 holds out every tenth."
# The arguments of `open_dataset` that determine the images.
WHICH = (
    *("image_size", "channels", "holdout", "skip_unreadable", "data_dir"),
    "validation",
)


class Dataset:
    """Labeled images in splits, found by their numbers.

    `open_dataset` opens a data set by name, `Dataset.from_data` takes arrays or
    `tf.data`. Images are read when they are needed.

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
        if isinstance(images, _user_images.Streams):  # rejects another shape
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
        """Returns the data set of your own images.

        Arguments:
            data: (train, test) or (train, validation, test). Each is a pair (images,
                labels) of arrays, of bytes or normalized floats; or each is a
                `tf.data.Dataset`. Labels are numbers; in arrays, also class names.
            image_size: Height and width, or one number for both; None: unchanged.
            channels: 1 or 3, as in `open_dataset`; None: unchanged.
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
        streams = [isinstance(split, tf.data.Dataset) for split in data]
        if any(streams) and not all(streams):
            raise InvalidType(
                "data contains both tf.data.Dataset and arrays. Give one of the two."
            )
        names = ("train", "validation", "test")[:: 2 if len(data) == 2 else 1]
        splits = dict(zip(names, data, strict=True))
        shape = _checks.check_size(image_size), _check_channels(channels)
        if not any(streams):
            return cls(_user_images.Given(splits, validation), *shape)
        if validation:
            raise InvalidValue(
                f"validation={validation} does not apply to a tf.data.Dataset. Give "
                "three data sets: data=(train, validation, test)."
            )
        return cls(_user_images.Streams(splits), *shape)

    @cached_property
    def info(self) -> DatasetInfo:
        """Shape, classes, counts, mean and standard deviation."""
        return self._images.info(*self._shape)

    @property
    def fingerprint(self) -> str | None:
        """A digest of the images of a folder or of arrays; None for other data sets."""
        return self._images.fingerprint

    @property
    def holdout(self) -> float | None:
        """The test fraction of an image folder without a test folder; else None."""
        return self._images.holdout

    def labels(self, split: str = "train") -> np.ndarray:
        """Returns the labels of a split, (N,) int64.

        Raises:
            ValueError: For ImageNet and `tf.data`, whose labels are not counted.
        """
        labels = self._numbered(split, self.info).labels
        if labels is None:
            raise InvalidValue(
                f"The classes of {self.info.name} are not counted, because that needs "
                "a pass over all images. Leave out the option that needs them."
            )
        return labels.copy()

    def read(self, indices: Sequence[int], split: str = "train") -> np.ndarray:
        """Returns images by their numbers, (n, height, width, channels), 0 to 255.

        Training images are uint8; others are float32 if they are scaled. Arrays of
        floats are not changed.

        Raises:
            ValueError: As `labels` does.
            OSError: If an image cannot be read.
        """
        source = self._numbered(split, self.info)
        return source.take(tf.constant([*indices], tf.int64))[0].numpy()

    def class_counts(
        self, limit: int | None = None, split: str = "train"
    ) -> tuple[int, ...]:
        """Returns the images per class, of a split or of `limit` of its images."""
        labels = self.labels(split)
        labels = labels[balanced_subset(labels, limit)]
        return tuple(np.bincount(labels, minlength=self.info.classes).tolist())

    def repeated(self, split: str) -> int:
        """Returns how many images of a split are identical to training images.

        Data sets with names and `tf.data` are not searched, and give 0.
        """
        training = {*self._images.digests("train")}
        return sum(each in training for each in self._images.digests(split))

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Heights and widths of the stored images, as far as they are known."""
        return self._images.sizes()

    @property
    def is_varied(self) -> bool:
        """Whether training images are augmented, which those of `tf.data` are not."""
        return not isinstance(self._images, _user_images.Streams)

    @cached_property
    def why_not_mirrored(self) -> str | None:
        """The reason why `flip="auto"` mirrors no image; None if it mirrors them.

        Reasons are: one channel in the files; class names that are digits or letters,
        or contain left or right; in color arrays without class names, that mirroring
        changes the images of a class in the same way.
        """
        images, channels = self._images, self._images.own_shape()[2]
        read = images.nameless and channels > 1
        source = images.read("train", self.info.image_shape, 1.0) if read else None
        return why_not_mirrored(channels, images.class_names, source)

    def files(
        self, split: str, limit: int | None = None, like: DatasetInfo | None = None
    ) -> tuple[str, ...] | None:
        """Returns the files of a folder's images, in the order of unshuffled `batches`.

        Returns None for other data sets.
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
        """Returns batches of normalized images and labels, a `tf.data.Dataset`.

        Images are float32 with mean 0 and standard deviation 1 per channel, labels are
        integers. Images that fit into memory are decoded only once.

        Each pass over the returned dataset is one epoch, the first of them `epoch`. A
        pass counts once its first batch is read. Order and augmentation of epoch e
        depend only on `seed` and e, so that `epoch=e` continues an earlier run.

        Arguments:
            split: `"train"`, `"validation"` or `"test"`, or another usual name of one,
                such as `"val"`. The test split of ImageNet is its usual validation set,
                because its test labels are secret.
            batch_size: Images per batch. For `"train"`, all batches have this size: the
                last images are dropped if they do not fill a batch. If there are fewer
                training images, all of them are one batch.
            augment: Augmentation. None: the default for training, none for other
                splits. True: the default, `"random_resized_crop"` for ImageNet, else
                `"standard"`. `"crop"`: zero padding by an eighth of the shorter side,
                and a crop of the old size. `"standard"`: also mirroring. `"strong"`:
                also brightness, contrast, saturation, rotation by up to 15 degrees,
                magnification and cutout. `"randaugment"`: standard, then two random
                operations of RandAugment. `"random_resized_crop"`: 8 to 100 % of the
                image, read in full resolution, and mirroring. `"none"` or False: none.
            flip: `"horizontal"` mirrors half of the images, `"none"` mirrors none.
                `"auto"` mirrors half of them unless augment is `"crop"` or
                `why_not_mirrored` gives a reason.
            reflect: Whether crops use reflection padding instead of zeros.
            mixup: Mixes pairs of images, with weights from Beta(mixup, mixup); labels
                are then probabilities of the classes. 0 for none.
            cutmix: Puts a rectangle of one image into another, with an area from
                Beta(cutmix, cutmix); 0 for none. With both, half of the images get one.
            shuffle: Whether each epoch has a new order; None: in training only.
            seed: Seed of order and augmentation; 0 or more.
            epoch: Epoch of the first pass; 0 or more.
            step: Number of batches that the first pass skips, without reading their
                images; the length of the dataset is then unknown.
            share: The slices of each batch to read, each as an element of its own, if
                several replicas train together: the first replica, how many to read
                for, and how many there are.
            limit: Use at most this many images: the first of each class in equal
                numbers (ImageNet and `tf.data`: simply the first). None: all.
            like: The data set that a network was trained on, to evaluate it on this
                one: images get its size, channels, mean and standard deviation, and
                labels follow its class names. None: this data set.
            cache: Where decoded images of a folder, or of `"tfds:NAME"`, are cached.
                `"memory"`: all at once. `"disk"`: as they are needed, in a file of the
                user's cache folder that is deleted with the process. `"none"`: they are
                decoded each time. `"auto"`: the first of these with enough room. Other
                data sets are in memory; ImageNet is not cached.

        Raises:
            ValueError: If an argument is out of range or does not apply to these
                images, or there is no image of the split.
            TypeError: If an argument has the wrong type.
        """
        split = self._check_split(split)
        training = split == "train"
        bounded: dict[str, object] = {"batch_size": batch_size, "seed": seed}
        bounded |= {"mixup": mixup, "cutmix": cutmix, "limit": limit}
        for name, number in bounded.items():
            if number is not None or name != "limit":
                _checks.check_bounds(name, number)
        _checks.check_integer("epoch", epoch, 0, "Counting starts at 0.")
        _checks.check_integer("step", step, 0, "0 leaves out nothing.")
        _checks.check_choice("cache", cache, _names.CACHES)
        _checks.check_choice("flip", flip, _names.FLIPS)
        images = self._images
        if isinstance(images, _user_images.Streams):
            asked = {"mixup": mixup, "cutmix": cutmix, "shuffle": shuffle}
            asked["augment"] = augment not in (None, True, False, "none")
            asked["flip"] = flip == "horizontal"
            asked["like"] = like not in (None, self.info)
            if unfit := [name for name in asked if asked[name]]:
                raise InvalidValue(
                    f"{unfit[0]} does not apply to a tf.data.Dataset. Leave it out, "
                    "and use its map method instead."
                )
            return images.batches(split, batch_size, share, step, limit)
        if augment is None and not training:
            augment = "none"
        transform = self.transform(augment, flip, reflect, mixup, cutmix)
        info = like or self.info
        # Regions are read from the files, not from cached images.
        of_files = transform.augment == "random_resized_crop"
        source = self._numbered(split, info, "none" if of_files else cache)
        chosen = _chosen(source, limit)
        if not len(chosen):
            raise InvalidValue(
                f"{images.name} has no image for split={split!r}. Add some, or choose "
                "another split."
            )
        if training:
            batch_size = min(batch_size, len(chosen))
        shuffle = training if shuffle is None else shuffle
        plan = _epochs.Plan(chosen, batch_size, seed, shuffle, training)
        batches = _epochs.passes(source, transform, plan, info, epoch, step, share)
        if not step:
            length = tf.data.experimental.assert_cardinality(plan.steps * share[1])
            batches = batches.apply(length)
        return _epochs.prefetched(batches)

    def transform(
        self,
        augment: bool | str | None = None,
        flip: str = "auto",
        reflect: bool = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> Transform:
        """Returns the augmentation of training images; arguments as in `batches`."""
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
        if kind in ("strong", "randaugment") and len(self.info.mean) not in (1, 3):
            raise InvalidValue(
                f"augment={kind!r} needs images of bytes with 1 or 3 channels. Give "
                "such images, or choose standard."
            )
        return Transform(kind, mirrors, reflect, mixup, cutmix)

    def _check_split(self, name: str) -> str:
        """Returns the split that a usual name means; raises if it does not exist."""
        split = _names.check_split(name)
        if split == "validation" and not self.info.validation_examples:
            raise InvalidValue(
                f"{self._images.name} has no validation split. Hold out training "
                "images by validation=0.1 (--validation 0.1), or name another split."
            )
        return split

    def _numbered(self, split: str, info: DatasetInfo, cache: str = "none") -> Source:
        """Returns the images of a split by number, with shape and labels of `info`."""
        split = self._check_split(split)
        source = self._images.read(split, info.image_shape, info.crop)
        names = () if self._images.nameless else self._images.class_names
        return _relabeled(cached(source, cache), names, info)


def _chosen(source: Source, limit: int | None) -> np.ndarray:
    if source.labels is None:
        return np.arange(source.length)[:limit]
    return balanced_subset(source.labels, limit)


def _relabeled(source: Source, ours: tuple[str, ...], info: DatasetInfo) -> Source:
    """Returns the images with labels that follow the class names of `info`."""
    theirs = info.class_names
    if ours == theirs or not ours or not theirs or source.labels is None:
        return source
    present = sorted({ours[label] for label in source.labels})
    if unknown := [name for name in present if name not in theirs]:
        raise InvalidValue(
            f"{len(unknown)} classes of the images are not among the classes of "
            f"{info.name}: {_folder.first_few(unknown)}; {info.name} has "
            f"{_folder.first_few(theirs)}. Choose images of its classes."
        )
    places = [theirs.index(name) if name in theirs else -1 for name in ours]
    return replace(source, labels=np.array(places, np.int64)[source.labels])


def batches_of(pair: Any, info: DatasetInfo | None) -> tf.data.Dataset:
    """Returns batches of a pair (images, labels) of the caller for a network.

    Bytes are normalized as the images of `info`, and class names are those of `info`.
    """
    images = _user_images.Given({"test": pair, "train": pair}, few=True)
    if images.normalized:
        info = info and replace(info, mean=(), std=())
    elif info is None or not info.mean:
        raise InvalidValue(
            "The model contains no mean and standard deviation to normalize bytes. "
            "Give floats, normalized as in its training, or what data.load returns."
        )
    return Dataset(images).batches("test", 128, like=info)


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
    """Opens a data set; images are read when they are needed.

    An image folder contains a folder for each class, as in `cats/1.jpg`, or folders
    `train` or `training`, and `test` or `testing`, in upper or lower case, that contain
    those of the classes. A folder `val`, `valid`, `validation` or `dev` is the
    validation split if there is a test folder, else the test split. Files are JPEG,
    PNG, WebP, BMP or GIF, also in deeper folders, and read as by `decode`; hidden and
    other files are skipped. Class names are the sorted names of the folders. Each file
    is inspected once; the result is cached in the user's cache folder. Mean and
    standard deviation are those of the training images.

    Arguments:
        name: `"digits"` (8x8 gray; comes with scikit-learn; every fifth example of each
            class is for testing), `"mnist"`, `"fashion_mnist"`, `"cifar10"`,
            `"cifar100"` or `"imagenet"`; the path of an image folder; or `"tfds:NAME"`
            for any set of TensorFlow Datasets that classifies images.
        image_size: Height and width, or one number for both. Each image gets a center
            crop of this aspect ratio, resized by adaptive average pooling. None: the
            common size of the images, if there is one of 224 pixels at most, else
            96x96.
        channels: 3 makes gray images three equal channels, 1 makes colors their
            brightness. None: 1 if all images are gray, else 3.
        holdout: Test fraction of an image folder without a test folder, from 0 to 1.
            The SHA-256 of a file decides its split, so that equal files are in one
            split, and a file stays in its split when others are added.
        skip_unreadable: Whether to skip files that cannot be read, instead of raising
            an error.
        data_dir: The data folder of TensorFlow Datasets; None for its default.
        validation: Fraction of the training images, in [0, 1), that make up the split
            `"validation"`: in folders and TensorFlow Datasets by the content of files,
            elsewhere by a fixed permutation. 0 for none, or if the data set has one.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, the name is unknown, or a folder
            contains files that cannot be read.
        FileNotFoundError: If the folder does not exist, or the data set is not
            downloaded; the message contains the command for that.

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
        kind = _tfds_images.ImageNet if chosen == "imagenet" else BuiltIn
        images = opened(kind, chosen, place, validation)
    elif chosen == _names.GIVEN:
        raise InvalidValue(
            "The images were passed to train as data=, and are stored nowhere. Name a "
            "data set or an image folder instead, as by --dataset."
        )
    elif chosen.startswith(_names.TFDS_PREFIX):
        images = opened(_tfds_images.AnyTfds, chosen, holdout, place, validation)
    else:
        listing = _folder.read_listing(Path(chosen))
        how = listing, holdout, skip_unreadable, validation, size
        images = opened(_folder.Folder, *how)
    return Dataset(images, size, channels)


def load(
    name: str | os.PathLike[str], split: str, batch_size: int, **how: Any
) -> tf.data.Dataset:
    """Returns batches of (images, labels) of a data set, a `tf.data.Dataset`.

    It is short for `open_dataset(name, …).batches(split, batch_size, …)`.

    Arguments:
        name: As in `open_dataset`.
        split: As in `Dataset.batches`.
        batch_size: As in `Dataset.batches`.
        **how: Further arguments of `open_dataset` and of `Dataset.batches`.

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
    """Returns the data set that a Keras model classifies, in the size that it takes.

    It has no images if `dataset` is only a description. `input_shape` is for models of
    an unknown size.
    """
    own_shape, classes = _shapes(model)
    shape, which, source = input_shape or own_shape, dict[str, Any](), None
    if not isinstance(dataset, DatasetInfo):
        if len(shape) == 3 and None not in shape:
            which["image_size"] = tuple(shape[:2])
            # A data set with a name and other channels is a mistake: raise below.
            if shape[2] in (1, 3) and dataset not in _names.DATASETS:
                which["channels"] = shape[2]
        source = open_dataset(dataset, **which)
    info: Any = dataset if source is None else source.info
    if not classifies(model, info, shape):
        raise InvalidValue(
            f"dataset={info.name!r} has {info.classes} classes and images of "
            f"{info.image_shape}, but the model maps {tuple(shape)} to {classes}. Pass "
            "the data set that it was trained on, or None."
        )
    return info, source


def classifies(
    model: Any, info: DatasetInfo, input_shape: Sequence[int] | None = None
) -> bool:
    """Returns whether a Keras model maps images of a data set to its classes."""
    own_shape, classes = _shapes(model)
    shape = tuple(input_shape or own_shape)
    return (shape, classes) == (tuple(info.image_shape), (info.classes,))


def _shapes(model: Any) -> tuple[tuple, tuple]:
    """Returns input and output shape of one example; () if unknown or several."""
    shapes = (getattr(model, f"{end}_shape", None) for end in ("input", "output"))
    inputs, outputs = (x[1:] if isinstance(x, tuple) else () for x in shapes)
    return inputs, outputs
