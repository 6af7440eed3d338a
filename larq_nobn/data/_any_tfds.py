"""Any set of TensorFlow Datasets that says which class an image is of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._datasets import DatasetInfo
from .._names import SPLITS, split_named
from ._images import Shape, described, once, remembered
from ._source import Source, collected, statistics
from ._tfds import check_labels, check_prepared, open_builder, quiet, reading_records
from .folder import (
    USUAL_SIDE,
    image_of,
    is_for_validation,
    is_held_out,
    suitable,
)


class AnyTfds:
    """A prepared set with an image and a label in each example.

    With one split only, `holdout` is the fraction for testing; without one for
    validation, `validation` that of the training images for it.
    """

    def __init__(
        self,
        name: str,
        builder: Any,
        keys: tuple[str, str],
        holdout: float,
        validation: float,
    ) -> None:
        self.name, self.builder, self.keys = name, builder, keys
        self.holdout, self.validation = holdout, validation
        self.class_names = tuple(builder.info.features[keys[1]].names)
        self._own_shape: tuple = builder.info.features[keys[0]].shape

    @remembered
    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """Their own size if it is known and small; counting takes a pass over all."""
        *own, channels = self._own_shape
        if size is None:
            known = None not in own
            size = suitable([tuple(own)]) if known else (USUAL_SIDE, USUAL_SIDE)
        shape = (*size, channels or 3)
        parts = {split: self.read(split, shape, 1.0) for split in SPLITS}
        counts = {split: len(part.labels) for split, part in parts.items()}
        found = statistics(parts["train"])
        return described(self.name, self.class_names, shape, counts, found)

    @remembered
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        """The images of a split: bytes to train with, exact means to test with."""
        exact = split != "train" and (self._own_shape != shape or crop != 1)
        labels: list[int] = []

        def images() -> Iterator[np.ndarray]:
            with quiet():
                for content, label in self.examples(split):
                    labels.append(label)
                    yield image_of(content, shape, exact, crop)

        count = sum(each.num_examples for each in self.builder.info.splits.values())
        dtype = "float32" if exact else "uint8"
        return collected(images(), labels, (count, *shape), dtype)

    def examples(self, split: str) -> Iterator[tuple[bytes, int]]:
        """Files and labels, in their order on disk."""
        import tensorflow_datasets as tfds

        there = _splits(self.name, self.builder)
        own = split if split in there else "train"
        with reading_records(self.name, self.builder.data_dir):
            files = self.builder.as_dataset(
                split=there[own],
                decoders={self.keys[0]: tfds.decode.SkipDecoding()},
                shuffle_files=False,
            )
        examples = files.as_numpy_iterator()
        while True:
            with reading_records(self.name, self.builder.data_dir):
                example = next(examples, None)
                if example is None:
                    return
                content, label = (example[key] for key in self.keys)
                check_labels([label], len(self.class_names))
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
    """Opens a set that is prepared, with the arguments and errors of `open_dataset`."""
    builder = open_builder(name, data_dir)
    keys = _keys(name, builder)
    check_prepared(name, builder, data_dir)
    if validation and "validation" in _splits(name, builder):
        raise ValueError(
            f"{name} has a validation split, so validation={validation} does not "
            "apply. Leave it out (--validation)."
        )
    return once(
        (name, os.fspath(builder.data_dir), holdout, validation),
        lambda: AnyTfds(name, builder, keys, holdout, validation),
    )


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
