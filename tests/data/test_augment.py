"""Variations of training images, against loops over single images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import _prepared
from larq_nobn.data._augment import (
    Augmentation,
    cutout,
    draw,
    jittered,
    mixed,
    mixup_weights,
    random_affine,
    varied,
)
from larq_nobn.data._batches import Plan, taken
from larq_nobn.data._source import Arrays
from numpy.testing import assert_allclose, assert_array_equal
from tensorflow.python.framework import op_callbacks

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 8, 12, 3), np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])
STRONG = Augmentation(pad=1, flip=True, colour=True, strong=True)


def uniform(columns: int) -> np.ndarray:
    return RNG.random((len(IMAGES), columns)).astype(np.float32)


@pytest.mark.parametrize("channels", [3, 1])
def test_colours(channels: int):
    numbers, images = uniform(3), IMAGES[..., :channels]
    actual = jittered(tf.constant(images), tf.constant(numbers)).numpy()
    luma = LUMA if channels == 3 else np.ones(1)
    for image, (first, second, third), result in zip(
        images, 0.6 + 0.8 * numbers.astype(np.float64), actual, strict=True
    ):
        x = first * image
        x = (x @ luma).mean() + second * (x - (x @ luma).mean())
        if channels == 3:
            grey = (x @ luma)[..., np.newaxis]
            x = grey + third * (x - grey)
        assert_allclose(result, np.clip(x, 0, 255), atol=2e-4)


def at(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Between four pixels, and beyond the border those of the mirror image."""

    def mirrored(place: int, count: int) -> int:
        place %= 2 * count
        return place if place < count else 2 * count - 1 - place

    top, left = int(np.floor(y)), int(np.floor(x))
    value = np.zeros(image.shape[2])
    for i, j in product((0, 1), (0, 1)):
        share = abs(1 - i - (y - top)) * abs(1 - j - (x - left))
        row, column = (
            mirrored(place, count)
            for place, count in zip((top + i, left + j), image.shape, strict=False)
        )
        value += share * image[row, column]
    return value


def test_turned_and_magnified():
    numbers = uniform(4)
    actual = random_affine(tf.constant(IMAGES), tf.constant(numbers)).numpy()
    height, width = IMAGES.shape[1:3]
    for image, (angle, size, top, left), result in zip(
        IMAGES.astype(np.float64), numbers.astype(np.float64), actual, strict=True
    ):
        half = (2 * angle - 1) * np.tan(np.radians(7.5))
        turn, scale = 2 * np.arctan(half), 0.7 + 0.3 * size
        assert abs(np.degrees(turn)) <= 15
        middle = np.array([(height - 1) / 2, (width - 1) / 2])
        moved = middle * (1 + (1 - scale) * (2 * np.array([top, left]) - 1))
        for i, j in product(range(height), range(width)):
            dy, dx = scale * (np.array([i, j]) - middle)
            y = moved[0] + np.sin(turn) * dx + np.cos(turn) * dy
            x = moved[1] + np.cos(turn) * dx - np.sin(turn) * dy
            assert_allclose(result[i, j], at(image, y, x), atol=0.02)


def test_holes():
    images = tf.zeros((3, 8, 12, 1))
    actual = cutout(images, tf.constant([[0.5, 0.5], [0.0, 1.0], [0.99, 0.2]]))
    for result, (y, x) in zip(
        actual.numpy()[..., 0], [(4, 6), (0, 12), (7.92, 2.4)], strict=True
    ):
        rows = abs(np.arange(8) + 0.5 - y) < 1
        columns = abs(np.arange(12) + 0.5 - x) < 1
        assert_array_equal(result, 127.5 * np.outer(rows, columns))


def test_what_an_image_gets_does_not_depend_on_the_batch():
    draws = draw(STRONG, len(IMAGES), (3, tf.constant(5, tf.int64)))
    assert draws.shape == (5, 12)
    whole = varied(tf.constant(IMAGES), draws, STRONG).numpy()
    for number in range(len(IMAGES)):
        part = slice(number, number + 1)
        alone = varied(tf.constant(IMAGES[part]), draws[part], STRONG)
        assert_array_equal(alone, whole[part])


def test_further_draws_leave_crops_alone():
    plain = draw(Augmentation(pad=1, flip=True), 50, (3, 5))
    more = draw(STRONG, 50, (3, 5)).numpy()
    assert_array_equal(more[:, :3], plain)
    assert len(np.unique(more[:, 3:])) == 50 * 9


# --- mixed images


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_beta(alpha: float):
    actual = mixup_weights(alpha, 40_000, (0, tf.constant(1, tf.int64))).numpy()
    assert actual.min() >= 0 and actual.max() <= 1
    spread = 1 / (4 * (2 * alpha + 1))
    # Five standard errors.
    assert abs(actual.mean() - 0.5) < 5 * np.sqrt(spread / 40_000)
    assert abs(actual.var() - spread) < 0.02 * spread
    assert np.isfinite(mixup_weights(1e-4, 1000, (0, 0))).all()


def test_mixed_pairs():
    labels, share = np.array([0, 2, 1, 1, 0]), uniform(1)[:, 0]
    images, actual = mixed(tf.constant(IMAGES), tf.constant(labels), share, 3)
    for i in range(5):
        own, other = share[i].astype(np.float64), 1 - share[i].astype(np.float64)
        expected = own * IMAGES[i] + other * IMAGES[i - 1]
        assert_allclose(images[i], expected, atol=1e-4)
        expected = own * np.eye(3)[labels[i]] + other * np.eye(3)[labels[i - 1]]
        assert_allclose(actual[i], expected, atol=1e-6)


def test_mixed_batches_have_probabilities_for_labels():
    few = {"batch_size": 30, "limit": 60}
    data = nobn.data.load("digits", "train", mixup=0.5, **few)
    assert data.element_spec[1].shape == (30, 10)
    plain = nobn.data.load("digits", "train", **few)
    for (_, labels), (_, probabilities) in zip(plain, data, strict=True):
        assert_allclose(np.sum(probabilities, 1), 1, atol=1e-6)
        kept = probabilities.numpy()[np.arange(30), labels] + 1e-6
        assert (kept[:, None] + probabilities >= 1 - 1e-5).numpy().any(1).all()


# --- seeds


@contextmanager
def seeds_used() -> Iterator[list[tuple[int, ...]]]:
    """The seeds of all stateless random operations that run eagerly inside."""
    actual: list[tuple[int, ...]] = []

    def noted(kind, inputs, attributes, outputs, op_name=None, graph=None):
        if graph is None and tf.compat.as_str(kind).startswith("Stateless"):
            pairs = [x for x in inputs if x.dtype.is_integer and x.shape == (2,)]
            # A seed, or what was made of one alone; what comes before is a shape.
            actual.append(tuple(np.int64(pairs[-1].numpy()).tolist()))

    op_callbacks.add_op_callback(noted)
    try:
        yield actual
    finally:
        op_callbacks.remove_op_callback(noted)


def test_no_two_draws_of_an_imagenet_image_have_one_seed():
    """Else a mirror image would follow from the crop."""
    jpeg = tf.io.encode_jpeg(np.zeros((50, 60, 3), np.uint8))
    with seeds_used() as seeds:
        for seed in range(3):
            _prepared.random_part(jpeg, tf.constant([seed, 1], tf.int64))
    assert len(seeds) == len(set(seeds)) >= 3 * 3


def test_no_two_draws_of_epochs_and_runs_have_one_seed():
    images = Arrays(tf.zeros((8, 8, 8, 3), tf.uint8), np.zeros(8, np.int64))
    with seeds_used() as seeds:
        for seed in range(2):
            plan = Plan(np.arange(8), 4, seed, shuffle=True, whole=True)
            made = taken(images, STRONG, 0.2, 10)
            for epoch in range(2):
                made(seed, tf.constant(epoch, tf.int64))
                plan.numbers(tf.constant(epoch, tf.int64), tf.constant(0, tf.int64))
    # Order, crop and mirror image, all that is strong, and the fractions of mixup.
    assert len(seeds) == len(set(seeds)) >= 2 * 2 * 4
