"""ImageNet: too large for memory, so read, decoded and cropped image by image."""

from __future__ import annotations

import tensorflow as tf

from ._batches import Batches
from ._tfds import DataDir, prepared_builder

SIZE = 224
_SHORT_SIDE = 256
# ImageNet files are already in random order on disk; this mixes neighbours.
_SHUFFLE_BUFFER = 16_384


def jpegs(split: str, limit: int | None, data_dir: DataDir) -> tf.data.Dataset:
    """Returns (JPEG bytes, label) in the order on disk, at most `limit` of them."""
    import tensorflow_datasets as tfds

    source = prepared_builder("imagenet", data_dir).as_dataset(
        split="train" if split == "train" else "validation",
        decoders={"image": tfds.decode.SkipDecoding()},
        as_supervised=True,
        shuffle_files=False,
    )
    return source if limit is None else source.take(limit)


def batches(
    source: tf.data.Dataset,
    batch_size: int,
    seed: int,
    augment: bool,
    shuffle: bool,
    whole: bool,
) -> Batches:
    """Returns the function from an epoch's number to its batches, values 0 to 255."""

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        fold = tf.random.experimental.stateless_fold_in
        seed_of_epoch = fold(tf.constant([seed, 0], tf.int64), epoch)

        def decode(index: tf.Tensor, jpeg: tf.Tensor) -> tf.Tensor:
            if augment:
                return random_part(jpeg, fold(seed_of_epoch, index))
            return centre(jpeg)

        numbered = source.enumerate()
        if shuffle:
            # Else the process's global seed would have a say in the order, and one of 0
            # fails, because TensorFlow compares the other seed, a tensor, with 0 too.
            tf.compat.v1.get_default_graph().seed = 1
            numbered = numbered.shuffle(
                _SHUFFLE_BUFFER, seed=seed_of_epoch[0], reshuffle_each_iteration=False
            )
        return numbered.map(
            lambda index, example: (decode(index, example[0]), example[1]),
            tf.data.AUTOTUNE,
        ).batch(batch_size, drop_remainder=whole)

    return of_epoch


def random_part(jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random 8 to 100 % of the image, scaled to 224 x 224, mirrored half the time."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(jpeg),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], 0)
    part = tf.image.decode_and_crop_jpeg(jpeg, window, channels=3)
    scaled = tf.image.resize(part, (SIZE, SIZE), antialias=True)
    return tf.image.stateless_random_flip_left_right(scaled, seed)


def centre(jpeg: tf.Tensor) -> tf.Tensor:
    """The shorter side scaled to 256 pixels, then the middle 224 x 224."""
    image = tf.io.decode_jpeg(jpeg, channels=3)
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = _SHORT_SIDE / tf.reduce_min(sides)
    new_sides = tf.cast(tf.round(sides * scale), tf.int32)
    scaled = tf.image.resize(image, new_sides, antialias=True)
    return tf.image.resize_with_crop_or_pad(scaled, SIZE, SIZE)
