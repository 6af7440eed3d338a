"""ImageNet: too large for memory, so read, decoded and cropped image by image.

Records of TensorFlow's files are found by their numbers, in any order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from .._datasets import DatasetInfo
from .._errors import InvalidValue
from .._files import cache_folder, replacing
from ._batches import OfEpoch, OfNumbers
from ._images import built_in_info
from ._source import check_later, validation_numbers
from ._tfds import DataDir, check_labels, prepared_builder, reading_records
from .folder import image_of

SIZE = 224
# A length of 8 bytes and its checksum come before the content, another one after.
_BEFORE, _AFTER = 12, 4


class ImageNet:
    """ImageNet, which is too large for memory."""

    name, class_names = "imagenet", ()

    def __init__(self, data_dir: str | None, validation: float) -> None:
        self._data_dir, self._validation = data_dir, validation

    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """What the registry says, of its one size."""
        found = built_in_info(self.name, self._validation)
        if size not in (None, found.image_shape[:2]):
            raise InvalidValue(
                f"image_size={size} does not apply to imagenet, whose images are "
                "224x224. Leave it out, or name tfds:imagenet2012, which comes in any "
                "size."
            )
        return found

    def open(
        self, split: str, augment: bool, info: DatasetInfo
    ) -> tuple[np.ndarray, OfEpoch]:
        """Returns the numbers of a split's images, and what makes batches of them.

        Of all images only a batch's are in memory, and of its parts only those that are
        wanted are read. Values are 0 to 255. Images that do not vary are what
        `deploy.Preprocessing` makes of their files, for the size and crop in `info`.
        """
        records, parsed = open_records(split, self._data_dir)
        numbers = np.arange(len(records))
        if split != "test":
            parts = validation_numbers(len(records), self._validation)
            numbers = parts[split == "validation"]
        shape = (SIZE, SIZE, 3) if augment else info.image_shape

        def whole(jpegs: Sequence[bytes]) -> np.ndarray:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = pool.map(
                    lambda each: image_of(each, shape, True, info.crop), jpegs
                )
                return np.array([*found], np.float32).reshape(-1, *shape)

        def decode(record: bytes) -> None:
            jpeg, label = parsed(tf.constant(record))
            check_labels([int(label)], info.classes)
            if augment:
                height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(jpeg))
                tf.image.decode_and_crop_jpeg(jpeg, [0, 0, height, width], channels=3)
            else:
                whole([jpeg.numpy()])

        def check(indices: np.ndarray) -> None:
            found, folder = records.read_all(indices), Path(records.files[0]).parent
            with (
                reading_records(self.name, folder),
                ThreadPoolExecutor(os.cpu_count()) as pool,
            ):
                list(pool.map(decode, found))

        def read(indices: np.ndarray) -> np.ndarray:
            check_later(partial(check, indices.copy()))
            return np.array(records.read_all(indices), object)

        def of_epoch(seed: int, epoch: tf.Tensor) -> OfNumbers:
            fold = tf.random.experimental.stateless_fold_in
            # No seed that a user gives is negative: the order starts another stream.
            seed_of_epoch = fold(tf.constant([-1 - seed, 0], tf.int64), epoch)

            def varied(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
                index, jpeg = given
                return random_part(jpeg, fold(seed_of_epoch, index))

            def batch(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                contents = tf.numpy_function(read, [indices], tf.string, stateful=False)
                contents = tf.ensure_shape(contents, indices.shape)
                kinds = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64))
                jpegs, labels = tf.map_fn(parsed, contents, fn_output_signature=kinds)
                if augment:
                    kind, both = tf.TensorSpec(shape), (indices, jpegs)
                    images = tf.map_fn(varied, both, fn_output_signature=kind)
                else:
                    images = tf.numpy_function(whole, [jpegs], "float32", False)
                known = tf.reduce_all((labels >= 0) & (labels < info.classes))
                with tf.control_dependencies([tf.debugging.Assert(known, [labels])]):
                    return tf.ensure_shape(images, (indices.shape[0], *shape)), labels

            return batch

        return numbers, of_epoch


def open_records(
    split: str, data_dir: DataDir
) -> tuple[Records, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Returns all examples of a split, and what makes one a JPEG and a label."""
    import tensorflow_datasets as tfds

    builder = prepared_builder("imagenet", data_dir)
    part = builder.info.splits["validation" if split == "test" else "train"]
    features = builder.info.features
    decoders = {"image": tfds.decode.SkipDecoding()}

    def parsed(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(record, decoders=decoders)
        return example["image"], example["label"]

    return records_in(part.filepaths), parsed


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


@dataclass(frozen=True, eq=False)
class Records:
    """Where the records of some files are.

    Places are (N, 3): the number of the file, the first byte, the number of bytes.
    """

    files: Sequence[str]
    places: np.ndarray

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.places)

    def read(self, index: int) -> bytes:
        """Returns the content of one."""
        file, start, size = self.places[index].tolist()
        with open(self.files[file], "rb") as stream:
            stream.seek(start)
            return stream.read(size)

    def read_all(self, indices: Iterable[int]) -> list[bytes]:
        """Returns the contents of several, read at once."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.read, indices))


def records_in(files: Iterable[str | os.PathLike[str]]) -> Records:
    """Finds the records of files, in their order; what is found is kept.

    Only lengths are read, once: a million of records takes a minute or two. The list is
    kept in the user's cache folder for as long as the files are as they were.
    """
    names = [os.fspath(file) for file in files]
    stats = [os.stat(name) for name in names]
    said = repr(
        [(name, s.st_size, s.st_mtime_ns) for name, s in zip(names, stats, strict=True)]
    )
    digest = hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()[:32]
    name = f"records/{digest}.npy"
    with (
        contextlib.suppress(OSError, ValueError),
        (cache_folder() / name).open("rb") as stream,
    ):
        return Records(names, np.load(stream, allow_pickle=False))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_places_in, names))
    places = np.concatenate(
        [np.insert(each, 0, number, axis=1) for number, each in enumerate(found)]
    )
    with contextlib.suppress(OSError):
        target = cache_folder() / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            np.save(temporary, places, allow_pickle=False)
    return Records(names, places)


def _places_in(name: str) -> np.ndarray:
    """First byte and number of bytes of each record."""
    end = Path(name).stat().st_size
    found, place = [], 0
    with open(name, "rb") as stream:
        while place < end:
            stream.seek(place)
            size = int.from_bytes(stream.read(8), "little")
            found.append((place + _BEFORE, size))
            place += _BEFORE + size + _AFTER
    if place != end:
        raise InvalidValue(
            f"{name} is cut off: its last record ends after the file. Prepare the "
            "data set again."
        )
    return np.array(found, np.int64).reshape(-1, 2)
