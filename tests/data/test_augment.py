"""Variations of training images, against loops over single images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data._augment import (
    Transform,
    cutout,
    jittered,
    mix_weights,
    mixed,
    random_affine,
    random_operations,
)
from larq_nobn.data._epochs import Plan, of_epoch
from larq_nobn.data._source import Source
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageOps
from tensorflow.python.framework import op_callbacks

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 8, 12, 3), np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])
SHAPE = (8, 12, 3)
# Those of an image do not depend on others.
ALL = [Transform(kind, True) for kind in nobn._names.AUGMENTATIONS[1:]]


def uniform(columns: int) -> np.ndarray:
    return RNG.random((len(IMAGES), columns)).astype(np.float32)


@pytest.mark.parametrize("channels", [3, 1])
def test_colours(channels: int):
    numbers, images = uniform(3), IMAGES[..., :channels]
    factors = tf.constant(0.6 + 0.8 * numbers)
    actual = jittered(tf.constant(images), factors).numpy()
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


@pytest.mark.parametrize("transform", ALL, ids=lambda each: each.augment)
def test_what_an_image_gets_does_not_depend_on_the_batch(transform: Transform):
    source = Source.of_arrays(IMAGES, np.zeros(5, np.int64))
    draws = transform.draw(5, (3, tf.constant(5, tf.int64)), SHAPE)
    # Crops and flips are the same for all of one seed.
    plain = Transform("standard", True).draw(5, (3, 5), SHAPE)
    assert_array_equal(draws[:, :3], plain)

    def seen(numbers: list[int]) -> np.ndarray:
        own = tf.gather(draws, numbers)
        images, _ = source.take(tf.constant(numbers), transform.regions(own))
        return transform.vary(images, own).numpy()

    whole = seen([0, 1, 2, 3, 4])
    assert whole.shape == IMAGES.shape and not np.array_equal(whole, IMAGES)
    assert whole.min() >= 0 and whole.max() <= 255
    for number in range(5):
        assert_array_equal(seen([number])[0], whole[number])


def test_random_parts():
    """Sizes as Inception has them, and pixels between those of the image."""
    draws = Transform("random_resized_crop").draw(4000, (0, 1), SHAPE)
    parts = Transform("random_resized_crop").regions(draws).numpy().astype(float)
    high, wide, down, right = parts.T
    area, ratio = high * wide, wide / high
    inside = (high < 1) & (wide < 1)
    assert 0.08 <= area[inside].min() < 0.1 and parts.max() <= 1
    assert abs(np.log(ratio[inside])).max() <= np.log(4 / 3) + 1e-5
    assert (
        0 <= min(down.min(), right.min()) < 0.01 and min(down.max(), right.max()) > 0.99
    )
    # A ramp stays one: of the rows from 2 to 5 of 8, and the columns from 3 to 9 of 12.
    ramp = 10.0 * np.arange(8)[:, None] + np.arange(12)
    images = np.repeat(ramp[None, ..., None], 2, 0).astype(np.float32)
    source = Source.of_arrays(images, np.zeros(2, np.int64))
    part = [3 / 7, 6 / 11, 2 / (7 - 3), 3 / (11 - 6)]
    actual, _ = source.take(tf.constant([1]), tf.constant([part], tf.float32))
    expected = 10 * np.linspace(2, 5, 8)[:, None] + np.linspace(3, 9, 12)
    assert_allclose(actual[0, ..., 0], expected, atol=1e-4)


def test_random_operations_are_those_of_pillow():
    """Each of the 14 by its number, first and alone; gray images have them too."""
    gray = IMAGES[..., :1]
    for number, (strength, expected) in {
        1: (0.9, ImageOps.autocontrast),
        2: (0.9, ImageOps.equalize),
        3: (0.25, lambda image: Image.fromarray(np.asarray(image) & 0xFC)),
        4: (
            0.25,
            lambda x: Image.fromarray(np.where((y := np.asarray(x)) < 128, y, ~y)),
        ),
        5: (0.25, lambda x: Image.fromarray((0.55 * np.asarray(x)).astype(np.uint8))),
        12: (5 / 12 / 0.6 + 0.5, lambda x: moved(x, 5, 1)),
        13: (2 / 8 / 0.6 + 0.5, lambda x: moved(x, 2, 0)),
    }.items():
        place = (number + 0.5) / 14
        for images in (IMAGES, gray):
            uniform = np.tile([place, strength, 0.01, 0.5], (5, 1))
            actual = random_operations(images, uniform)
            for image, result in zip(images, actual, strict=True):
                own = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
                wanted = np.asarray(expected(own)).reshape(SHAPE[:2] + image.shape[2:])
                assert_allclose(result.astype(int), wanted, atol=1, err_msg=str(number))


def moved(image: Image.Image, pixels: int, axis: int) -> np.ndarray:
    """What lies so many pixels further, and gray beyond."""
    place = [slice(None)] * 2
    place[axis] = slice(-pixels, None)
    result = np.roll(np.array(image), -pixels, axis)
    result[tuple(place)] = 128
    return result


# --- mixed images


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_beta(alpha: float):
    actual = mix_weights(alpha, 40_000, (0, tf.constant(1, tf.int64))).numpy()
    assert actual.min() >= 0 and actual.max() <= 1
    spread = 1 / (4 * (2 * alpha + 1))
    # Five standard errors.
    assert abs(actual.mean() - 0.5) < 5 * np.sqrt(spread / 40_000)
    assert abs(actual.var() - spread) < 0.02 * spread
    assert np.isfinite(mix_weights(1e-4, 1000, (0, 0))).all()


def test_mixed_pairs():
    labels, share = np.array([0, 2, 1, 1, 0]), uniform(1)[:, 0]
    given = tf.constant(IMAGES), tf.constant(labels), share[:, None]
    images, actual = mixed(*given, 3)
    for i in range(5):
        own, other = share[i].astype(np.float64), 1 - share[i].astype(np.float64)
        expected = own * IMAGES[i] + other * IMAGES[i - 1]
        assert_allclose(images[i], expected, atol=1e-4)
        expected = own * np.eye(3)[labels[i]] + other * np.eye(3)[labels[i - 1]]
        assert_allclose(actual[i], expected, atol=1e-6)


def test_cut_pairs():
    """Rectangles of the area 1 - λ, cut at the border, come from the example before."""
    labels = np.array([0, 2, 1, 1, 0])
    draws = np.array(
        [[0.75, 1, 0.5, 0.5], [0.75, 1, 0, 1], [1, 1, 0.2, 0.2]] + [[0] * 4] * 2
    )
    draws = draws.astype(np.float32)
    images, actual = mixed(tf.constant(IMAGES), tf.constant(labels), draws, 3)
    # Half of each side: rows 2 to 5 of 8 and columns 3 to 8 of 12; then a quarter.
    inside = np.zeros((2, 8, 12), bool)
    inside[0, 2:6, 3:9] = inside[1, :2, 9:] = True
    for i in (0, 1):
        expected = np.where(inside[i, ..., None], IMAGES[i - 1], IMAGES[i])
        assert_array_equal(images[i], expected)
        other = inside[i].mean()
        expected = (1 - other) * np.eye(3)[labels[i]] + other * np.eye(3)[labels[i - 1]]
        assert_allclose(actual[i], expected, atol=1e-6)
    assert_array_equal(images[2], IMAGES[2])
    both = Transform(mixup=0.5, cutmix=1.0).draw_mix(4000, (0, tf.constant(1)))
    assert abs(np.mean(both[:, 1]) - 0.5) < 5 * 0.5 / 4000**0.5
    assert_array_equal(Transform(cutmix=1.0).draw_mix(9, (0, 1))[:, 1], np.ones(9))


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_batches_have_probabilities_for_labels(mix: str):
    few = {"batch_size": 30, "limit": 60}
    data = nobn.data.load("digits", "train", **{mix: 0.5}, **few)
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


def test_no_two_draws_of_epochs_and_runs_have_one_seed():
    images = Source.of_arrays(np.zeros((8, 8, 8, 3), np.uint8), np.zeros(8, np.int64))
    info = nobn.data.DatasetInfo("set", (8, 8, 3), 10, ())
    transform = Transform("strong", True, mixup=0.2, cutmix=1.0)
    with seeds_used() as seeds:
        for seed in range(2):
            plan = Plan(np.arange(8), 4, seed, shuffle=True, whole=True)
            for epoch in range(2):
                number = tf.constant(epoch, tf.int64)
                of_epoch(images, transform, info, seed, number)
                plan.numbers(number, tf.constant(0, tf.int64))
    # Order, crop and mirror image, all that is strong, how much and what is mixed.
    assert len(seeds) == len(set(seeds)) >= 2 * 2 * 5
