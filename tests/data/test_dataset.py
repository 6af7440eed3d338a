"""One object for each kind of images: what it tells, and what it gives by number."""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import Dataset, open_dataset
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.datasets import load_digits

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 4, 5, 3), np.uint8)
LABELS = np.arange(12) % 3


def test_digits_are_those_of_scikit_learn():
    whole, digits = load_digits(), open_dataset("digits")
    pixels = np.rint(whole.images * 255 / 16).astype(np.uint8)
    found = {}
    for split in ("train", "test"):
        labels = digits.labels(split)
        images = digits.read(np.arange(len(labels)), split)[..., 0]
        found |= {bytes(i): n for i, n in zip(images, labels, strict=True)}
    assert found == {bytes(i): n for i, n in zip(pixels, whole.target, strict=True)}
    # Every fifth of a class is for testing.
    counts = np.bincount(digits.labels("test"))
    assert_array_equal(counts, np.bincount(whole.target) // 5)
    assert digits.info.test_examples == counts.sum()
    assert digits.info.train_examples == len(whole.target) - counts.sum()


def test_arrays_are_found_by_their_numbers():
    dataset = Dataset.from_data(((IMAGES, LABELS), (IMAGES[:6], LABELS[:6])))
    assert_array_equal(dataset.read([7, 0, 7]), IMAGES[[7, 0, 7]])
    assert_array_equal(dataset.labels("test"), LABELS[:6])
    assert dataset.read([], "test").shape == (0, 4, 5, 3)
    assert dataset.class_counts() == (4, 4, 4)
    assert dataset.class_counts(limit=4) == (2, 1, 1)
    assert dataset.info.test_examples == 6
    assert dataset.fingerprint is None
    assert dataset.files("test") is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            path = tmp_path / split / f"class {label}" / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return tmp_path


def test_a_folder_is_read_by_number(folder: Path):
    dataset = open_dataset(folder)
    assert dataset.info.class_names == ("class 0", "class 1", "class 2")
    files = dataset.files("test")
    assert files is not None
    numbers = [int(Path(file).stem) for file in files]
    assert_array_equal(dataset.labels("test"), LABELS[numbers])
    assert_array_equal(dataset.read([3, 1], "test"), IMAGES[numbers][[3, 1]])


def test_the_functions_are_those_of_the_object():
    which = {"image_size": 5, "validation": 0.2}
    options = {"seed": 3, "epoch": 2, "augment": "strong", "mixup": 0.5, "limit": 8}
    dataset = open_dataset("digits", **which)
    ours = next(iter(dataset.batches("train", 4, **options)))
    theirs = next(iter(nobn.data.load("digits", "train", 4, **options, **which)))
    for mine, other in zip(ours, theirs, strict=True):
        assert_array_equal(mine, other)


def test_streams_have_no_numbers():
    part = tf.data.Dataset.from_tensor_slices((IMAGES.astype(np.float32), LABELS))
    dataset = Dataset.from_data((part, part))
    assert dataset.info.train_examples == 12
    with pytest.raises(ValueError, match="classes of given are not counted"):
        dataset.labels()
    with pytest.raises(ValueError, match="given are not counted"):
        dataset.read([0])


def test_splits_have_usual_names():
    dataset = open_dataset("digits", validation=0.1)
    for name, split in (("val", "validation"), ("Testing", "test")):
        assert_array_equal(dataset.labels(name), dataset.labels(split))
    with pytest.raises(ValueError, match="split must be one of .*; got 'held out'"):
        dataset.labels("held out")
