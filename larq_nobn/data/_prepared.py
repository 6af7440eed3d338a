"""Prepared sets of TensorFlow Datasets, whose images are read one by one."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._names import SPLITS, split_named
from ._batches import OfEpoch, OfNumbers
from ._images import Images, Shape, Size, built_in_info, cached_method
from ._registry import DatasetInfo
from ._source import LazyImages, cached, in_threads, numbers_of, statistics
from ._tfds import Examples, check_prepared, open_builder, prepared_builder
from .folder._folder import split_of, suitable

SIZE = 224


class AnyTfds(Images):
    """A prepared set with an image and a label in each example."""

    def __init__(
        self, name: str, holdout: float, data_dir: str | None, validation: float
    ) -> None:
        self.name, self._held_out, self._validation = name, holdout, validation
        self._builder = open_builder(name, data_dir)
        self._keys = _keys(name, self._builder)
        check_prepared(name, self._builder, data_dir)
        self.check_division(validation, _splits(name, self._builder))
        image, label = (self._builder.info.features[key] for key in self._keys)
        self.class_names, self._own_shape = tuple(label.names), image.shape

    @cached_method
    def info(self, size: Size) -> DatasetInfo:
        """Their own size if it is known and small; counting takes a pass over all."""
        *own, channels = self._own_shape
        size = size or suitable([] if None in own else [tuple(own)])
        shape = (*size, channels or 3)
        counts = {split: len(part) for split, part in self._parts().items()}
        of_training = statistics(cached(self.read("train", shape, 1.0), "auto"))
        return self.described(shape, counts, of_training)

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> LazyImages:
        part = self._parts()[split]
        exact = split != "train" and (self._own_shape != shape or crop != 1)

        def image(index: int) -> np.ndarray:
            examples, number, _ = part[index]
            return examples.image(number, shape, exact, crop)[0]

        labels = np.array([label for *_, label in part], np.int64)
        return LazyImages(image, labels, shape, "float32" if exact else "uint8")

    @cached_method
    def _parts(self) -> dict[str, list[tuple[Examples, int, int]]]:
        """Place, number and label of the images of each split, by one pass over all."""
        parts: dict[str, list] = {split: [] for split in SPLITS}
        there = _splits(self.name, self._builder)
        for own, stored in there.items():
            examples = Examples(self.name, self._builder, stored, self._keys)
            named = None if own == "train" and "test" not in there else own
            for number in range(len(examples)):
                content, label = examples.read(number)
                digest = hashlib.sha256(content).hexdigest()
                split = split_of(named, digest, self._held_out, self._validation)
                parts[split].append((examples, number, label))
        return parts


def _splits(name: str, builder: Any) -> dict[str, str]:
    """The names of its splits by what they are for.

    Without a test split, that for validation is for testing.
    """
    names = reversed([*builder.info.splits])
    there = {split: name for name in names if (split := split_named(name))}
    if "train" not in there:
        raise InvalidValue(
            f"{name} has no training split: its splits are "
            f"{', '.join(builder.info.splits)}. Choose a set that has one."
        )
    if "test" not in there and "validation" in there:
        there["test"] = there.pop("validation")
    return there


def _keys(name: str, builder: Any) -> tuple[str, str]:
    """The features that are image and class, which a set calls its supervised ones."""
    import tensorflow_datasets as tfds

    features, keys = dict(builder.info.features.items()), builder.info.supervised_keys
    kinds = tfds.features.Image, tfds.features.ClassLabel
    found = [features.get(key) if isinstance(key, str) else None for key in keys or ()]
    if len(found) != 2 or not all(map(isinstance, found, kinds)):
        raise InvalidValue(
            f"{name} has no image with a class: its features are "
            f"{', '.join(features)}. Choose a set that classifies images."
        )
    return keys


class ImageNet(Images):
    """ImageNet, which is too large for memory."""

    name, unfit = "imagenet", ("mixup", "augment", "reflect")
    remedy = (
        "imagenet, whose images are random parts of files. Leave it out, or name "
        "tfds:imagenet2012"
    )

    def __init__(self, data_dir: str | None, validation: float) -> None:
        self._data_dir, self._validation = data_dir, validation

    def info(self, size: Size) -> DatasetInfo:
        """What the registry says, of its one size."""
        info = built_in_info(self.name, self._validation)
        if size not in (None, info.image_shape[:2]):
            raise InvalidValue(
                f"image_size={size} does not apply to imagenet, whose images are "
                "224x224. Leave it out, or name tfds:imagenet2012, which comes in any "
                "size."
            )
        return info

    def open(
        self, split: str, augment: bool, info: DatasetInfo
    ) -> tuple[np.ndarray, OfEpoch]:
        """Returns the numbers of a split's images, and what makes batches of them.

        Values are 0 to 255. Images that do not vary are what `deploy.Preprocessing`
        makes of their files, for the size and crop in `info`.
        """
        builder = prepared_builder(self.name, self._data_dir)
        stored = "validation" if split == "test" else "train"  # the usual test images
        examples = Examples(self.name, builder, stored, ("image", "label"))
        shape = (SIZE, SIZE, 3) if augment else info.image_shape
        fold = tf.random.experimental.stateless_fold_in

        def read(indices: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, ...]:
            def example(index: int) -> tuple[np.ndarray, int]:
                if not augment:
                    return examples.image(index, shape, True, info.crop)
                file, label = examples.read(index)
                with tf.device("CPU:0"):
                    return random_part(file, fold(seed, index)).numpy(), label

            pairs = in_threads(example, indices)
            pixels = np.array([decoded for decoded, _ in pairs], np.float32)
            labels = np.array([label for _, label in pairs], np.int64)
            return pixels.reshape(-1, *shape), labels

        def of_epoch(seed: int, epoch: tf.Tensor) -> OfNumbers:
            # No seed that a user gives is negative: the order starts another stream.
            seed_of_epoch = fold(tf.constant([-1 - seed, 0], tf.int64), epoch)

            def batch(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                images, labels = tf.numpy_function(
                    read, [indices, seed_of_epoch], ("float32", "int64"), False
                )
                count = indices.shape[0]
                images = tf.ensure_shape(images, (count, *shape))
                return images, tf.ensure_shape(labels, (count,))

            return batch

        return numbers_of(split, len(examples), self._validation), of_epoch


def random_part(jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random 8 to 100 % of the image, scaled to 224 x 224, mirrored half the time."""
    # With one seed for both, the mirror image would follow from the crop.
    of_crop, of_mirror = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    start, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(jpeg),
        tf.zeros((1, 0, 4)),
        of_crop,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([start[:2], size[:2]], 0)
    part = tf.image.decode_and_crop_jpeg(jpeg, window, channels=3)
    scaled = tf.image.resize(part, (SIZE, SIZE), antialias=True)
    return tf.image.stateless_random_flip_left_right(scaled, of_mirror)
