"""One object for each kind of images: what it tells, and what it gives by number."""

from __future__ import annotations

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import Dataset, open_dataset
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 4, 5, 3), np.uint8)
LABELS = np.arange(12) % 3
# For a split of them.
MANY = np.random.default_rng(1).integers(0, 256, (40, 4, 4, 1), np.uint8)
TWO = np.arange(40) % 2


def test_digits_are_those_of_scikit_learn():
    whole, digits = load_digits(), open_dataset("digits")
    pixels = np.rint(whole.images * 255 / 16).astype(np.uint8)
    actual = {}
    for split in ("train", "test"):
        labels = digits.labels(split)
        images = digits.read(np.arange(len(labels)), split)[..., 0]
        actual |= {bytes(i): n for i, n in zip(images, labels, strict=True)}
    assert actual == {bytes(i): n for i, n in zip(pixels, whole.target, strict=True)}
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
    assert dataset.files("test") is None


def test_other_arrays_have_another_fingerprint():
    both = (IMAGES, LABELS), (IMAGES[:6], LABELS[:6])
    mark = Dataset.from_data(both).fingerprint
    assert mark == Dataset.from_data(tuple(both)).fingerprint
    for train in (
        (255 - IMAGES, LABELS),
        (IMAGES, 2 - LABELS),
        (IMAGES[::-1], LABELS[::-1]),
        (IMAGES[:11], LABELS[:11]),
    ):
        assert Dataset.from_data((train, both[1])).fingerprint != mark
    assert Dataset.from_data((both[0], both[0])).fingerprint != mark
    assert Dataset.from_data(both, validation=0.5).fingerprint != mark


def test_streams_have_no_numbers():
    part = tf.data.Dataset.from_tensor_slices((IMAGES.astype(np.float32), LABELS))
    dataset = Dataset.from_data((part, part))
    assert dataset.info.train_examples == 12
    for ask in (dataset.labels, lambda: dataset.read([0])):
        with pytest.raises(ValueError, match="Dataset cannot be read by number"):
            ask()


def test_splits_have_usual_names():
    dataset = open_dataset("digits", validation=0.1)
    for name, split in (("val", "validation"), ("Testing", "test")):
        assert_array_equal(dataset.labels(name), dataset.labels(split))
    with pytest.raises(ValueError, match="split must be one of .*; got 'held out'"):
        dataset.labels("held out")


# --- three splits


def all_in(dataset, split):
    """Images and labels by number."""
    labels = dataset.labels(split)
    images = dataset.read(range(len(labels)), split)
    return [(x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True)]


def all_of(split, **options):
    return all_in(nobn.data.open_dataset("digits", **options), split)


def test_held_out_images_are_a_part_of_the_training_images():
    whole = all_of("train")
    kept, held = (all_of(s, validation=0.25) for s in ("train", "validation"))
    # By a fixed permutation, and not by class.
    order, count = np.random.default_rng(0).permutation(1442), round(0.25 * 1442)
    assert held == [whole[k] for k in sorted(order[:count])]
    assert kept == [whole[k] for k in sorted(order[count:])]
    dataset = nobn.data.open_dataset("digits", validation=0.25)
    info = dataset.info
    assert (info.train_examples, info.validation_examples) == (len(kept), len(held))
    assert all_of("test", validation=0.25) == all_of("test")
    assert sum(dataset.class_counts()) == len(kept)
    # What an evaluation gets is in this order.
    first, labels = next(iter(dataset.batches("val", 16)))
    assert [label for _, label in held[:16]] == labels.numpy().tolist()
    assert first.shape == (16, 8, 8, 1)


def test_arrays_are_divided_or_bring_their_own():
    pair, own = (MANY, TWO), (MANY[:8], TWO[:8])
    divided = Dataset.from_data((pair, own), validation=0.25)
    info = divided.info
    assert (info.train_examples, info.validation_examples) == (30, 10)
    kept, held = all_in(divided, "train"), all_in(divided, "validation")
    assert len({*kept} & {*held}) == 0 and len(kept + held) == 40
    assert Dataset.from_data((pair, own)).info.validation_examples == 0
    three = Dataset.from_data((pair, own, own))
    assert three.info.validation_examples == 8
    assert all_in(three, "validation") == all_in(three, "test")
    with pytest.raises(ValueError, match="contains a validation split, so validat"):
        Dataset.from_data((pair, own, own), validation=0.25)


def test_streams_bring_their_own_or_have_none():
    part = tf.data.Dataset.from_tensor_slices((MANY, TWO)).batch(8)
    three = Dataset.from_data((part, part.take(2), part.take(1)))
    info = three.info
    assert (info.validation_examples, info.test_examples) == (16, 8)
    assert [len(x) for x, _ in three.batches("validation", 10)] == [10, 6]
    with pytest.raises(ValueError, match="does not apply to a tf.data.Dataset"):
        Dataset.from_data((part, part.take(1)), validation=0.1)
    with pytest.raises(ValueError, match="given has no validation split"):
        Dataset.from_data((part, part.take(1))).batches("validation", 4)


def test_without_a_validation_split_nothing_takes_its_place():
    """Neither training images nor none."""
    both = MANY, TWO
    for dataset in (nobn.data.open_dataset("digits"), Dataset.from_data((both, both))):
        for ask in (dataset.labels, lambda split, d=dataset: d.read([0], split)):
            with pytest.raises(ValueError, match="has no validation split. Hold out"):
                ask("validation")
