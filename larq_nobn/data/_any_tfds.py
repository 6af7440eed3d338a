"""Any set of TensorFlow Datasets that says which class an image is of."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._registry import DatasetInfo, split_named
from ._source import Source, collected, statistics
from ._tfds import PREFIX, builder_of, is_prepared, quiet
from .folder import USUAL_SIDE, image_of, is_held_out, suitable


@dataclass(frozen=True, eq=False)  # two are the same if they are one object
class AnyTfds:
    """A prepared set with an image and a label in each example.

    Arguments:
        name: With the prefix.
        builder: That of TensorFlow Datasets.
        keys: Of image and label among the features.
        holdout: Share for testing if it has one split only.
    """

    name: str
    builder: Any
    keys: tuple[str, str]
    holdout: float

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
        counts = {
            split: len(self.source(split, shape).labels) for split in ("train", "test")
        }
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
        )

    def source(
        self, split: str, shape: tuple[int, int, int], crop: float = 1.0
    ) -> Source:
        """The images of a split: bytes to train with, exact means to test with."""
        return _source(self, split, shape, crop)

    def examples(self, split: str) -> Iterator[tuple[bytes, int]]:
        """Files and labels, in their order on disk."""
        import tensorflow_datasets as tfds

        train, test = _splits(self.name, self.builder)
        chosen = train if test is None or split == "train" else test
        files = self.builder.as_dataset(
            split=chosen,
            decoders={self.keys[0]: tfds.decode.SkipDecoding()},
            shuffle_files=False,
        )
        for example in files.as_numpy_iterator():
            content, label = (example[key] for key in self.keys)
            digest = hashlib.sha256(content).hexdigest()
            wanted = split == "test"
            if test is not None or is_held_out(digest, self.holdout) == wanted:
                yield content, int(label)


def open_tfds(name: str, holdout: float, data_dir: str | None) -> AnyTfds:
    """Opens a set that is prepared.

    Raises:
        FileNotFoundError: If it is not prepared; says which command does that.
        ImportError: If TensorFlow Datasets is not installed.
        ValueError: If there is no such set, or it does not classify images.
    """
    builder = builder_of(name.removeprefix(PREFIX), data_dir)
    keys = _keys(name, builder)
    if not is_prepared(builder):
        place = "" if data_dir is None else f" --data-dir {data_dir}"
        raise FileNotFoundError(
            f"{name} is not prepared in {builder.data_dir_root}. Run: "
            f"larq-nobn data {name}{place}"
        )
    _splits(name, builder)
    return _opened(name, os.fspath(builder.data_dir), holdout, _Builder(builder, keys))


class _Builder:
    """A builder that a cache takes for any other one."""

    def __init__(self, builder: Any, keys: tuple[str, str]) -> None:
        self.builder, self.keys = builder, keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Builder)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=4)
def _opened(name: str, place: str, holdout: float, found: _Builder) -> AnyTfds:
    return AnyTfds(name, found.builder, found.keys, holdout)


def _splits(name: str, builder: Any) -> tuple[str, str | None]:
    """The names of the split to train with, and of that to test with, if any."""
    there = {split_named(each): each for each in reversed([*builder.info.splits])}
    if "train" not in there:
        raise ValueError(
            f"{name} has no training split: its splits are "
            f"{', '.join(builder.info.splits)}. Choose a set that has one."
        )
    return there["train"], there.get("test", there.get("validation"))


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
    exact = split == "test" and (own != shape or crop != 1)
    labels: list[int] = []

    def images() -> Iterator[np.ndarray]:
        with quiet():
            for content, label in dataset.examples(split):
                labels.append(label)
                yield image_of(content, shape, exact, crop)

    count = sum(each.num_examples for each in dataset.builder.info.splits.values())
    dtype = "float32" if exact else "uint8"
    return collected(images(), labels, (count, *shape), dtype)
