"""Downloaded sets of TensorFlow Datasets, whose images are read one by one."""

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

    def read(number: int, region: np.ndarray | None) -> tuple[np.ndarray, int]:
        examples, place = places[number]
        return examples.image(place, shape, exact, crop, region)

    return Source(len(places), shape, "float32" if exact else "uint8", labels, read)


class AnyTfds(Images):
    """A downloaded set with an image and a label in each example."""

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
        return {split: len(own) for split, own in self._examples().items()}

    def own_shape(self) -> Shape:
        *own, channels = self._stored
        return (*suitable([] if None in own else [own]), channels or 3)

    def sizes(self) -> set[tuple[int, int]]:
        *own, _ = self._stored
        return set() if None in own else {tuple(own)}

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        own = self._examples()[split]
        labels = np.array([label for _, label in own], np.int64)
        return source_of([place for place, _ in own], labels, split, shape, crop)

    @cached_method
    def _examples(self) -> dict[str, list[tuple[_Place, int]]]:
        """Returns place and label of each split's images, from a pass over all."""
        by_split: dict[str, list] = {split: [] for split in SPLITS}
        stored_splits = _splits(self.name, self._builder)
        for own, stored in stored_splits.items():
            examples = Examples(self.name, self._builder, stored, self._keys)
            named = None if own == "train" and "test" not in stored_splits else own
            for number in range(len(examples)):
                content, label = examples.example(number)
                digest = hashlib.sha256(content).hexdigest()
                split = split_of(named, digest, self._held_out, self._validation)
                by_split[split].append(((examples, number), label))
        return by_split


def _splits(name: str, builder: Any) -> dict[str, str]:
    """Returns the names of the stored splits, by the split that they are used as.

    Without a test split, the validation split is used for testing.
    """
    names = reversed([*builder.info.splits])
    stored = {split: name for name in names if (split := split_named(name))}
    if "train" not in stored:
        raise InvalidValue(
            f"{name} has no training split: its splits are "
            f"{', '.join(builder.info.splits)}. Choose a set that has one."
        )
    if "test" not in stored and "validation" in stored:
        stored["test"] = stored.pop("validation")
    return stored


def _keys(name: str, builder: Any) -> tuple[str, str]:
    """Returns the names of the features for image and label, the supervised keys."""
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
    """ImageNet, which is too large for memory and for a pass over all labels."""

    def sizes(self) -> set[tuple[int, int]]:
        return set()

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        builder = prepared_builder(self.name, self._data_dir)
        stored = "validation" if split == "test" else "train"  # test labels are secret
        examples = Examples(self.name, builder, stored, ("image", "label"))
        numbers = numbers_of(split, len(examples), self.validation).tolist()
        places = [(examples, number) for number in numbers]
        return source_of(places, None, split, shape, crop)
