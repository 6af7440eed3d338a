"""Prepared sets of TensorFlow Datasets, whose images are read one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._errors import InvalidValue
from .._names import SPLITS, split_named
from ._images import BuiltIn, Images, Shape, cached_method, suitable
from ._source import Source, numbers_of
from ._tfds import Examples, check_prepared, open_builder, prepared_builder
from .folder._folder import split_of

# The examples of a stored split, and the number of one of them.
_Place = tuple[Examples, int]


def source_of(
    places: Sequence[_Place],
    labels: np.ndarray | None,
    split: str,
    shape: Shape,
    crop: float,
) -> Source:
    exact = split != "train"

    def read(number: int, part: np.ndarray | None) -> tuple[np.ndarray, int]:
        examples, place = places[number]
        return examples.image(place, shape, exact, crop, part)

    kind = "float32" if exact else "uint8"
    return Source(len(places), shape, kind, labels, read)


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
        self.class_names, self._stored = tuple(label.names), image.shape

    def counts(self) -> Mapping[str, int]:
        return {split: len(part) for split, part in self._parts().items()}

    def own_shape(self) -> Shape:
        *own, channels = self._stored
        return (*suitable([] if None in own else [own]), channels or 3)

    def sizes(self) -> set[tuple[int, int]]:
        *own, _ = self._stored
        return set() if None in own else {tuple(own)}

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        part = self._parts()[split]
        labels = np.array([label for _, label in part], np.int64)
        return source_of([place for place, _ in part], labels, split, shape, crop)

    @cached_method
    def _parts(self) -> dict[str, list[tuple[_Place, int]]]:
        """Place and label of the images of each split, by one pass over all."""
        parts: dict[str, list] = {split: [] for split in SPLITS}
        there = _splits(self.name, self._builder)
        for own, stored in there.items():
            examples = Examples(self.name, self._builder, stored, self._keys)
            named = None if own == "train" and "test" not in there else own
            for number in range(len(examples)):
                content, label = examples.read(number)
                digest = hashlib.sha256(content).hexdigest()
                split = split_of(named, digest, self._held_out, self._validation)
                parts[split].append(((examples, number), label))
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


class ImageNet(BuiltIn):
    """ImageNet, too large for memory and for a pass over all labels."""

    def sizes(self) -> set[tuple[int, int]]:
        return set()

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        builder = prepared_builder(self.name, self._data_dir)
        stored = "validation" if split == "test" else "train"  # the usual test images
        examples = Examples(self.name, builder, stored, ("image", "label"))
        numbers = numbers_of(split, len(examples), self.validation).tolist()
        places = [(examples, number) for number in numbers]
        return source_of(places, None, split, shape, crop)
