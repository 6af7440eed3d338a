"""A fixed part of the training images to choose settings on; test images have none."""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds

HELD_OUT = 5_000


def split():
    """The training images of CIFAR-10 in two parts, each (images, labels)."""
    found = tfds.as_numpy(tfds.load("cifar10", split="train", batch_size=-1))
    order = np.random.default_rng(0).permutation(len(found["label"]))
    kept, held_out = order[HELD_OUT:], order[:HELD_OUT]
    return [(found["image"][part], found["label"][part]) for part in (kept, held_out)]
