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
        seed=settings.seed,
        epoch=epoch,
        limit=settings.limit,
        **settings.images,
    )
