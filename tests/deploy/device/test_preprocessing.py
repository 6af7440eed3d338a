"""What a phone does with an image: against loops, and against what training saw."""

from fractions import Fraction
from math import ceil, floor

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn.data import _images
from larq_nobn.deploy import Preprocessing
from numpy.testing import assert_allclose, assert_array_equal


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def of(name, crop=1.0):
    info = nobn.data.open_dataset(name).info
    return Preprocessing(info.mean, info.std, info.image_shape[:2], crop)


def touching(pixel, count, size):
    first, end = Fraction(pixel * count, size), Fraction((pixel + 1) * count, size)
    return range(floor(first), ceil(end))


def brightness(red, green, blue):
    return Fraction(299 * red + 587 * green + 114 * blue, 1000)


def loops(picture, mean, std, size, crop):
    """The same in exact fractions, pixel by pixel."""
    height, width, channels = picture.shape
    tall, wide = size
    rows = max(1, floor(crop * min(height, floor(Fraction(width * tall, wide)))))
    columns = max(1, floor(crop * min(width, floor(Fraction(height * wide, tall)))))
    top, left = (height - rows) // 2, (width - columns) // 2
    actual = np.zeros((tall, wide, len(mean)))
    for i, j in np.ndindex(tall, wide):
        down, across = touching(i, rows, tall), touching(j, columns, wide)
        touched = [picture[top + y, left + x].tolist() for y in down for x in across]
        if len(mean) == 1 and channels == 3:
            touched = [[brightness(*rgb)] for rgb in touched]
        for c in range(len(mean)):
            x = Fraction(sum(values[c] for values in touched), len(touched))
            actual[i, j, c] = (float(x) / 255 - mean[c]) / std[c]
    return actual


RGB = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.mark.parametrize(
    "shape, mean, std, size, crop",
    [
        ((13, 9, 3), *RGB, (4, 4), 0.875),
        ((1, 50, 3), *RGB, (4, 4), 0.1),
        ((10, 11, 3), (0.5,), (0.25,), (4, 6), 1.0),
        ((10, 11, 1), (0.5,), (0.25,), (4, 6), 0.6),
    ],
)
def test_it_is_the_mean_of_the_touched_pixels(shape, mean, std, size, crop):
    picture = pictures(*shape)
    actual = Preprocessing(mean, std, size, crop)(picture)
    assert actual.dtype == np.float32
    expected = loops(picture, mean, std, size, crop)
    assert_allclose(actual, expected[np.newaxis], rtol=0, atol=2e-6)


def test_digits_become_what_training_sees():
    given = nobn.data.open_dataset("digits").read(range(355), "test")
    batches = nobn.data.load("digits", "test", 64).as_numpy_iterator()
    assert_array_equal(of("digits")(given), np.concatenate([x for x, _ in batches]))


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_stored_images_become_what_training_sees(name, monkeypatch, tmp_path):
    images = pictures(20, *nobn.data.open_dataset(name).info.image_shape)
    stored = images, np.zeros(20, np.int64)
    monkeypatch.setattr(_images.BuiltIn, "whole", lambda *_: stored)
    # A folder of its own, so that no other test gets these images.
    actual = nobn.data.load(name, "test", 20, data_dir=tmp_path)
    ((expected, _),) = actual.as_numpy_iterator()
    assert_array_equal(of(name)(images), expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mean": (123.7, 116.3, 103.5)}, r"mean=123.7 is outside \[0, 1\]. It is"),
        ({"std": (0.2, 0.0, 0.2)}, r"std=0.0 is outside \(0, inf\)"),
        ({"mean": (0.5,)}, "differ in length"),
        ({"size": 32}, "size=32 is not a pair"),
        ({"crop": 1.5}, r"crop=1.5 is outside \(0, 1\]"),
    ],
)
def test_arguments_are_checked(changes, message):
    given = {"mean": RGB[0], "std": RGB[1], "size": (32, 32)}
    with pytest.raises((TypeError, ValueError), match=message):
        Preprocessing(**{**given, **changes})


@pytest.mark.parametrize(
    "given, message",
    [
        (pictures(8, 8, 3) / 255, "images of type float64 are not bytes"),
        (pictures(8, 8, 4), "have 4 channels, but the network takes 3"),
    ],
)
def test_images_are_checked(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        of("cifar10")(given)
