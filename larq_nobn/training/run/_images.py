"""The images that a run trains on, and those that it is tested on."""

from __future__ import annotations

import tensorflow as tf

from ... import data
from ..settings import RunSettings


def images_of(settings: RunSettings, split: str, epoch: int = 0) -> tf.data.Dataset:
    """Batches of a split, those of training from an epoch on."""
    return data.load(
        settings.dataset,
        split,
        settings.batch_size,
        reflect=settings.reflect,
        seed=settings.seed,
        epoch=epoch,
        limit=settings.limit,
        data_dir=settings.data_dir,
    )
