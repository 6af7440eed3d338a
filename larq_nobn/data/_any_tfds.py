"""Any set of TensorFlow Datasets that says which class an image is of."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np

from .._errors import InvalidValue
from .._names import SPLITS, split_named
from ._images import Images, Shape, Size, cached_method
from ._records import Examples
from ._registry import DatasetInfo
from ._source import LazyImages, cached, statistics
from ._tfds import check_prepared, open_builder
from .folder._decode import image_of
from .folder._folder import USUAL_SIDE, split_of, suitable


class AnyTfds(Images):
    """A prepared set with an image and a label in each example.

    With one split only, a fraction is held out for testing; without one for validation,
    `validation` is that of the training images for it.
    """

    def __init__(
        self, name: str, holdout: float, data_dir: str | None, validation: float
    ) -> None:
        self.name, self._held_out, self._validation = name, holdout, validation
        self._builder = open_builder(name, data_dir)
        self._keys = _keys(name, self._builder)
        check_prepared(name, self._builder, data_dir)
        if validation and "validation" in _splits(name, self._builder):
            raise InvalidValue(
                f"{name} has a validation split, so validation={validation} does not "
                "apply. Leave it out (--validation)."
            )
        image, label = (self._builder.info.features[key] for key in self._keys)
        self.class_names, self._own_shape = tuple(label.names), image.shape

    @cached_method
    def info(self, size: Size) -> DatasetInfo:
        """Their own size if it is known and small; counting takes a pass over all."""
        *own, channels = self._own_shape
        if size is None:
            known = None not in own
            size = suitable([tuple(own)]) if known else (USUAL_SIDE, USUAL_SIDE)
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
            file, _ = examples.read(number)
            try:
                return image_of(file, shape, exact, crop)
            except ValueError as error:
                raise OSError(
                    f"An image of {self.name} in {self._builder.data_dir} cannot be "
                    f"read: {error}. Delete the folder of the set and prepare it again."
                ) from error

        return LazyImages.of(image, [label for *_, label in part], shape, exact)

    @cached_method
    def _parts(self) -> dict[str, list[tuple[Examples, int, int]]]:
        """Place, number and label of the images of each split, by one pass over all."""
        parts: dict[str, list[tuple[Examples, int, int]]]
        parts = {split: [] for split in SPLITS}
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


# Opens a set that is prepared, with the arguments and errors of `open_dataset`.
open_tfds = functools.lru_cache(maxsize=8)(AnyTfds)


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
    """The features that are image and class."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    preferred = builder.info.supervised_keys or ()
    chosen = []
    for kind in kinds:
        keys = [key for key in features if isinstance(features[key], kind)]
        chosen += [key for key in keys if key in preferred or len(keys) == 1]
    if len(chosen) != len(kinds):
        raise InvalidValue(
            f"{name} has no image with a class: its features are "
            f"{', '.join(features)}. Choose a set that classifies images."
        )
    return chosen[0], chosen[1]
