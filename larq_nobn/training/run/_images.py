"""The images that a run trains on, and those that it is tested on."""

from __future__ import annotations

from dataclasses import replace

import tensorflow as tf

from ... import data
from ...data._batches import WHOLE, Share
from ...population import EXAMPLES
from ..folder import START, Position
from ..settings import RunSettings


def images_of(
    settings: RunSettings,
    split: str,
    begin: Position = START,
    share: Share = WHOLE,
    cache: str = "auto",
) -> tf.data.Dataset:
    """Batches of a split: those of training from a position on, and then for ever.

    Arguments:
        settings: Those of the run.
        split: `"train"`, `"validation"` or `"test"`.
        begin: Where training goes on. From the begin of an epoch on, a pass is one.
        share: Of several replicas, those that are served.
        cache: Where decoded pictures are kept.
    """
    found = data.load(
        split=split,
        batch_size=settings.batch_size,
        augment=settings.augment if split == "train" else None,
        reflect=settings.reflect,
        mixup=settings.mixup if split == "train" else 0.0,
        seed=settings.seed,
        epoch=begin.epochs,
        step=begin.steps,
        share=share,
        cache=cache,
        limit=settings.limit,
        **settings.images,
    )
    return found.repeat() if begin.steps else found


def watched_split(settings: RunSettings) -> str:
    """The split of the history: validation, or test where there is no validation."""
    found = data.describe(**settings.images)
    return "validation" if found.validation_examples else "test"


def few_images(settings: RunSettings, cache: str) -> tf.data.Dataset:
    """A batch of training images, the same for the same settings."""
    few = min(EXAMPLES, settings.limit or EXAMPLES)
    one = replace(settings, batch_size=few, accumulate=1, mixup=0.0)
    return images_of(one, "train", cache=cache).take(1)


def class_weights(settings: RunSettings) -> list[float] | None:
    """Weights that give all classes the same share of the loss, 1 in the mean.

    A class of n among N training images of K classes has N / (K n).
    """
    if not settings.balance_classes:
        return None
    counts = data.class_counts(limit=settings.limit, **settings.images)
    there = [count for count in counts if count]
    return [count and sum(there) / (len(there) * count) for count in counts]
