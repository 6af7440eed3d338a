"""Images in memory, and what all kinds of images have in common."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from .._checks import check_bounds
from .._errors import InvalidValue, needing
from ._area import scaled
from ._registry import BUILT_IN, DatasetInfo
from ._source import Arrays, Source, Statistics, numbers_of, on_host
from ._tfds import prepared_builder

Shape = tuple[int, int, int]
Size = tuple[int, int] | None
_Method = TypeVar("_Method", bound=Callable[..., Any])


def cached_method(method: _Method) -> _Method:
    """Lets a method return for the same arguments what it returned before."""

    @functools.wraps(method)
    def cached(self: Any, *arguments: Hashable) -> Any:
        results = vars(self).setdefault("_results", {})
        key = (method.__name__, *arguments)
        if key not in results:
            results[key] = method(self, *arguments)
        return results[key]

    return cached  # type: ignore[return-value]


@functools.lru_cache(maxsize=8)
def opened(kind: Callable[..., Images], *given: Hashable) -> Images:
    """Returns the same images for the same arguments, which are read once then."""
    return kind(*given)


class Images(ABC):
    """Labeled images in splits, each of which is found by its number."""

    name: str
    class_names: tuple[str, ...] = ()
    holdout: float | None = None
    fingerprint: str | None = None
    # Arguments of `Dataset.batches` that do not apply; what they are, and what to do.
    unfit: tuple[str, ...] = ()
    remedy = ""

    @abstractmethod
    def info(self, size: Size) -> DatasetInfo:
        """What there is to say of them, in a size or their own."""

    def read(self, split: str, shape: Shape, crop: float) -> Source:
        """The images of a split: bytes to train with, exact means to test with."""
        raise InvalidValue(
            f"The classes of {self.name} are not counted, because that would need a "
            "pass over all images. Leave it out."
        )

    def files(self, split: str) -> list[str] | None:
        """The files of the images of a split, if each has one."""
        return None

    def digests(self, split: str) -> list[str]:
        """One digest for each image of a split, where its content is known."""
        return []

    def check_division(self, validation: float, splits: Collection[str | None]) -> None:
        """Rejects a fraction for validation of images that are divided already."""
        if validation and "validation" in splits:
            raise InvalidValue(
                f"{self.name} contains a validation split, so validation={validation} "
                "does not apply. Leave it out (--validation)."
            )

    def described(
        self, shape: Shape, counts: Mapping[str, int], known: Statistics = ((), ())
    ) -> DatasetInfo:
        """What is said of them; mean and standard deviation are of the training."""
        return DatasetInfo(
            *(self.name, shape, len(self.class_names), self.class_names),
            *(counts["train"], counts["test"], *known),
            validation_examples=counts.get("validation", 0),
            holdout=self.holdout,
        )


class InMemory(Images):
    """Images in memory, of whose training images a fraction may be for validation."""

    validation: float

    @abstractmethod
    def whole(self, split: str) -> Arrays:
        """A split as it is stored."""

    @cached_method
    def part(self, split: str) -> Arrays:
        """A split as it is used, in its own shape."""
        if not self.validation or split == "test":
            return self.whole(split)
        whole = self.whole("train")
        numbers = numbers_of(split, len(whole.labels), self.validation)
        return Arrays(on_host(whole.images.numpy()[numbers]), whole.labels[numbers])

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Arrays:
        part = self.part(split)
        if part.images.shape[1:] == shape and crop == 1:
            return part
        images = scaled(part.images.numpy(), shape[:2], shape[2], crop)
        if split == "train":
            images = np.rint(images).astype(np.uint8)
        return Arrays(on_host(images), part.labels)


class BuiltIn(InMemory):
    """One of `NAMES` but ImageNet."""

    def __init__(self, name: str, data_dir: str | None, validation: float) -> None:
        self.name, self._data_dir, self.validation = name, data_dir, validation
        self.class_names = BUILT_IN[name].class_names

    def info(self, size: Size) -> DatasetInfo:
        """What the registry says; nothing is read for it."""
        info = built_in_info(self.name, self.validation)
        *own, channels = info.image_shape
        return replace(info, image_shape=(*(size or own), channels))

    @cached_method
    def whole(self, split: str) -> Arrays:
        if self.name == "digits":
            images, labels = _digits(split)
            return Arrays(on_host(images), labels)
        builder = prepared_builder(self.name, self._data_dir)
        with tf.device("CPU:0"):
            # Files in their order on disk, so that an example keeps its index.
            data = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
            return Arrays(data["image"], data["label"].numpy())


def built_in_info(name: str, validation: float) -> DatasetInfo:
    """What the registry says, with a fraction of the training images held out."""
    info = BUILT_IN[name]
    held_out = round(validation * info.train_examples)
    train = info.train_examples - held_out
    return replace(info, train_examples=train, validation_examples=held_out)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Every fifth example of each class is for testing, the others for training.

    The set lists its writers one after the other, so both parts see all of them.
    """
    with needing("digits comes with scikit-learn", "data"):
        from sklearn.datasets import load_digits
    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    chosen = (_rank_in_class(labels) % 5 == 4) == (split == "test")
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # given as 0 to 16
    return grey[chosen][..., np.newaxis], labels[chosen]


def balanced_subset(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Returns the indices of the first examples of each class, in rising order.

    Of `limit` examples, classes differ by at most one as long as all have enough.
    """
    if limit is None:
        return np.arange(len(labels))
    check_bounds("limit", limit)
    return np.sort(np.lexsort((labels, _rank_in_class(labels)))[:limit])


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """How many earlier examples have the same label."""
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels, labels[order], sorter=order)
    rank = np.empty_like(labels)
    rank[order] = np.arange(len(labels)) - first
    return rank
