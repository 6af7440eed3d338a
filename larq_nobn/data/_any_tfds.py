"""Any set of TensorFlow Datasets that says which class an image is of."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._names import SPLITS, TFDS_PREFIX
from ._registry import DatasetInfo, split_named
from ._source import Source, collected, statistics
from ._tfds import builder_of, is_prepared, quiet
from .folder import (
    USUAL_SIDE,
    image_of,
    is_for_validation,
    is_held_out,
    suitable,
)


@dataclass(frozen=True, eq=False)  # two are the same if they are one object
class AnyTfds:
    """A prepared set with an image and a label in each example.

    Arguments:
        name: With the prefix.
        builder: That of TensorFlow Datasets.
        keys: Of image and label among the features.
        holdout: Share for testing if it has one split only.
        validation: Fraction of the training images that are for validation, if it has
            no split for it.
    """

    name: str
    builder: Any
    keys: tuple[str, str]
    holdout: float
    validation: float

    @property
    def class_names(self) -> tuple[str, ...]:
        """As the set has them."""
        return tuple(self.builder.info.features[self.keys[1]].names)

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What `describe` says; the statistics need a pass over the images."""
        height, width, channels = self.builder.info.features[self.keys[0]].shape
        if size is None:
            known = None not in (height, width)
            size = suitable([(height, width)]) if known else (USUAL_SIDE, USUAL_SIDE)
        shape = (*size, channels or 3)
        counts = {split: len(self.source(split, shape).labels) for split in SPLITS}
        mean, std = _statistics(self, shape)
        return DatasetInfo(
            name=self.name,
            image_shape=shape,
            classes=len(self.class_names),
            class_names=self.class_names,
            train_examples=counts["train"],
            test_examples=counts["test"],
            mean=mean,
            std=std,
            validation_examples=counts["validation"],
        )

    def source(
        self, split: str, shape: tuple[int, int, int], crop: float = 1.0
    ) -> Source:
        """The images of a split: bytes to train with, exact means to test with."""
        return _source(self, split, shape, crop)

    def examples(self, split: str) -> Iterator[tuple[bytes, int]]:
        """Files and labels, in their order on disk."""
        import tensorflow_datasets as tfds

        there = _splits(self.name, self.builder)
        own = split if split in there else "train"
        files = self.builder.as_dataset(
            split=there[own],
            decoders={self.keys[0]: tfds.decode.SkipDecoding()},
            shuffle_files=False,
        )
        for example in files.as_numpy_iterator():
            content, label = (example[key] for key in self.keys)
            digest = hashlib.sha256(content).hexdigest()
            found = own
            if own == "train" and "test" not in there:
                found = "test" if is_held_out(digest, self.holdout) else "train"
            if found == "train" and is_for_validation(digest, self.validation):
                found = "validation"
            if found == split:
                yield content, int(label)


def open_tfds(
    name: str, holdout: float, data_dir: str | None, validation: float = 0.0
) -> AnyTfds:
    """Opens a set that is prepared.

    Raises:
        FileNotFoundError: If it is not prepared; says which command does that.
        ImportError: If TensorFlow Datasets is not installed.
        ValueError: If there is no such set, or it does not classify images.
    """
    builder = builder_of(name.removeprefix(TFDS_PREFIX), data_dir)
    keys = _keys(name, builder)
    if not is_prepared(builder):
        place = "" if data_dir is None else f" --data-dir {data_dir}"
        raise FileNotFoundError(
            f"{name} is not prepared in {builder.data_dir_root}. Run: "
            f"larq-nobn data {name}{place}"
        )
    if validation and "validation" in _splits(name, builder):
        raise ValueError(
            f"{name} has a validation split, so validation={validation} does not "
            "apply. Leave it out (--validation)."
        )
    place, found = os.fspath(builder.data_dir), _Builder(builder, keys)
    return _opened(name, place, holdout, validation, found)


class _Builder:
    """A builder that a cache takes for any other one."""

    def __init__(self, builder: Any, keys: tuple[str, str]) -> None:
        self.builder, self.keys = builder, keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Builder)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=4)
def _opened(
    name: str, place: str, holdout: float, validation: float, found: _Builder
) -> AnyTfds:
    return AnyTfds(name, found.builder, found.keys, holdout, validation)


def _splits(name: str, builder: Any) -> dict[str, str]:
    """The names of its splits by what they are for; without a test split, that for
    validation is for testing.
    """
    named = [(split_named(each), each) for each in reversed([*builder.info.splits])]
    there = {split: each for split, each in named if split is not None}
    if "train" not in there:
        raise ValueError(
            f"{name} has no training split: its splits are "
            f"{', '.join(builder.info.splits)}. Choose a set that has one."
        )
    if "test" not in there and "validation" in there:
        there["test"] = there.pop("validation")
    return there


def _keys(name: str, builder: Any) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    preferred = builder.info.supervised_keys or ()
    chosen = []
    for kind in kinds:
        keys = [key for key in features if isinstance(features[key], kind)]
        chosen += [key for key in keys if key in preferred or len(keys) == 1]
    if len(chosen) != len(kinds):
        raise ValueError(
            f"{name} has no image with a class: its features are "
            f"{', '.join(features)}. Choose a set that classifies images."
        )
    return chosen[0], chosen[1]


@functools.lru_cache(maxsize=4)
def _statistics(dataset: AnyTfds, shape: tuple[int, int, int]) -> tuple[tuple, tuple]:
    """Those of the training images, which a process finds out once."""
    return statistics(dataset.source("train", shape))


@functools.lru_cache(maxsize=4)
def _source(
    dataset: AnyTfds, split: str, shape: tuple[int, int, int], crop: float
) -> Source:
    """The second call in a process returns the same images."""
    own = dataset.builder.info.features[dataset.keys[0]].shape
    exact = split != "train" and (own != shape or crop != 1)
    labels: list[int] = []

    def images() -> Iterator[np.ndarray]:
        with quiet():
            for content, label in dataset.examples(split):
                labels.append(label)
                yield image_of(content, shape, exact, crop)

    count = sum(each.num_examples for each in dataset.builder.info.splits.values())
    dtype = "float32" if exact else "uint8"
    return collected(images(), labels, (count, *shape), dtype)
