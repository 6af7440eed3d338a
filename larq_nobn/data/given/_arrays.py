"""Arrays that a caller hands over."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import tensorflow as tf

from .._registry import DatasetInfo
from .._source import Arrays, of_shape, part_of, statistics, validation_numbers
from ._name import GIVEN, class_names_of


class Given:
    """Arrays of images: bytes, or floats that are taken as they are.

    Arguments:
        **parts: `train`, `test`, and `validation` if there is one: images (N, height,
            width, channels) or (N, height, width), and labels.
    """

    def __init__(self, **parts: Any) -> None:
        self._parts = {split: _arrays(split, part) for split, part in parts.items()}
        train = self._parts["train"].images
        for split, part in self._parts.items():
            images = part.images
            if images.shape[1:] != train.shape[1:] or images.dtype != train.dtype:
                raise ValueError(
                    f"data contains training images of {train.shape[1:]} and "
                    f"{train.dtype.name}, and {split} images of {images.shape[1:]} and "
                    f"{images.dtype.name}. Give both the same."
                )
        classes = 1 + max(int(p.labels.numpy().max()) for p in self._parts.values())
        self.class_names = class_names_of(classes)
        # What is found out once, however often it is asked for.
        self._resized: dict[tuple[str, tuple[int, int, int], float], Arrays] = {}
        self._statistics: dict[tuple[int, int, int], tuple[tuple, tuple]] = {}
        self._divided: dict[float, Given] = {}

    def with_validation(self, share: float) -> Given:
        """The same with a fraction of the training images for validation."""
        if not share:
            return self
        if "validation" in self._parts:
            raise ValueError(
                f"data contains a validation split, so validation={share} does not "
                "apply. Leave it out."
            )
        if share not in self._divided:
            train = self._parts["train"]
            numbers = validation_numbers(len(train.labels), share)
            found = copy.copy(self)
            kept, held = (part_of(train, each) for each in numbers)
            found._parts = {**self._parts, "train": kept, "validation": held}
            found._resized, found._statistics = {}, {}
            self._divided[share] = found
        return self._divided[share]

    @property
    def normalized(self) -> bool:
        """Whether images are floats, which stay what they are."""
        return self._parts["train"].images.dtype.is_floating

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What `describe` says."""
        images = self._parts["train"].images
        height, width, channels = images.shape[1:]
        shape = (*(size or (height, width)), channels)
        # Of what was prepared elsewhere nothing is known.
        mean: tuple[float, ...] = ()
        std: tuple[float, ...] = ()
        if not self.normalized:
            if shape not in self._statistics:
                self._statistics[shape] = statistics(self.source("train", shape))
            mean, std = self._statistics[shape]
        return DatasetInfo(
            name=GIVEN,
            image_shape=shape,
            classes=len(self.class_names),
            class_names=self.class_names,
            train_examples=len(self._parts["train"].labels),
            test_examples=len(self._parts["test"].labels),
            mean=mean,
            std=std,
            validation_examples=(
                len(self._parts["validation"].labels)
                if "validation" in self._parts
                else 0
            ),
        )

    def source(
        self, split: str, shape: tuple[int, int, int], crop: float = 1.0
    ) -> Arrays:
        """The images of a split."""
        part = self._parts[split]
        same = part.images.shape[1:] == shape
        if same and (self.normalized or crop == 1):
            return part
        if self.normalized:
            raise ValueError(
                f"image_size={shape[:2]} does not apply to images of floats. Give them "
                "in this size, or as bytes."
            )
        if (split, shape, crop) not in self._resized:
            self._resized[split, shape, crop] = of_shape(part, split, shape, crop)
        return self._resized[split, shape, crop]


def _arrays(split: str, part: Any) -> Arrays:
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        raise TypeError(
            f"data holds {type(part).__name__} for the {split} images. Give (images, "
            "labels)."
        )
    images, labels = (np.asarray(each) for each in part)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"data holds {split} images of shape {images.shape} and labels of shape "
            f"{labels.shape}. Give (N, height, width, channels) and (N,)."
        )
    if not len(images):
        raise ValueError(f"data holds no {split} images. Give some.")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise TypeError(
                f"data holds {split} images of {images.dtype}. Give bytes (uint8), or "
                "floats that need no more preparation."
            )
        images = images.astype(np.float32)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(
            f"data holds {split} labels of {labels.dtype}, the least being "
            f"{labels.min()}. Give whole numbers from 0."
        )
    with tf.device("CPU:0"):
        return Arrays(tf.constant(images), tf.constant(labels.astype(np.int64)))
