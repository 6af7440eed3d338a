"""A CIFAR-10 of 120 random images, as TensorFlow Datasets stores the real one."""

from __future__ import annotations

from pathlib import Path

import larq_nobn  # noqa: F401  (first: it selects legacy Keras)
import cifar10_from_npm
import numpy as np
import pytest

PER_FILE = 20


@pytest.fixture(scope="session")
def miniature() -> cifar10_from_npm.Splits:
    """Images and labels, with equally many of each class, as in the real one."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, size in (("train", 5 * PER_FILE), ("test", PER_FILE)):
        images = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        splits[split] = images, rng.permutation(np.repeat(np.arange(10), size // 10))
    return splits


@pytest.fixture(scope="session")
def cifar10(
    miniature: cifar10_from_npm.Splits, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The data folder of TensorFlow Datasets with the miniature in it."""
    folder = tmp_path_factory.mktemp("tfds")
    cifar10_from_npm.write(miniature, str(folder))
    return folder
