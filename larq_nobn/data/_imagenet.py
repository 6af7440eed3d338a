"""ImageNet: too large for memory, so read, decoded and cropped image by image."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from ._batches import OfEpoch, OfNumbers
from ._images import Images, Size, built_in_info
from ._records import Examples
from ._registry import DatasetInfo
from ._source import in_threads, validation_numbers
from ._tfds import prepared_builder, reading_records
from .folder._decode import image_of

SIZE = 224


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

        Of all images only a batch's are in memory, and of its parts only those that are
        wanted are read. Values are 0 to 255. Images that do not vary are what
        `deploy.Preprocessing` makes of their files, for the size and crop in `info`.
        """
        builder = prepared_builder(self.name, self._data_dir)
        stored = "validation" if split == "test" else "train"  # the usual test images
        examples = Examples(self.name, builder, stored)
        numbers = np.arange(len(examples))
        if split != "test":
            parts = validation_numbers(len(examples), self._validation)
            numbers = parts[split == "validation"]
        shape = (SIZE, SIZE, 3) if augment else info.image_shape
        fold = tf.random.experimental.stateless_fold_in

        def example(index: int, seed: np.ndarray) -> tuple[np.ndarray, int]:
            file, label = examples.read(index)
            with reading_records(self.name, examples.folder):
                if not augment:
                    return image_of(file, shape, True, info.crop), label
                with tf.device("CPU:0"):
                    return random_part(file, fold(seed, index)).numpy(), label

        def read(indices: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, ...]:
            pairs = in_threads(functools.partial(example, seed=seed), indices)
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

        return numbers, of_epoch


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
