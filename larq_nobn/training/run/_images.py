"""The images that a run trains on, and those that it is tested on."""

from __future__ import annotations

import tensorflow as tf

from ... import data
from ..settings import RunSettings


def images_of(settings: RunSettings, split: str, epoch: int = 0) -> tf.data.Dataset:
    """Batches of a split, those of training from an epoch on."""
    return data.load(
        split=split,
        batch_size=settings.batch_size,
        augment=settings.augment if split == "train" else None,
        reflect=settings.reflect,
        mixup=settings.mixup if split == "train" else 0.0,
        seed=settings.seed,
        epoch=epoch,
        limit=settings.limit,
        **settings.images,
    )


def class_weights(settings: RunSettings) -> list[float] | None:
    """Weights that give all classes the same share of the loss, 1 in the mean.

    A class of n among N training images of K classes has N / (K n).
    """
    if not settings.balance_classes:
        return None
    images = {k: v for k, v in settings.images.items() if k != "image_size"}
    counts = data.class_counts(limit=settings.limit, **images)
    there = [count for count in counts if count]
    return [count and sum(there) / (len(there) * count) for count in counts]
