"""Which images are mirrored: by what they are, and not by what a set is called."""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn.data._mirror import common_difference, is_symbol
from PIL import Image
from sklearn.datasets import load_digits

DIGITS = load_digits()
GRAY = np.rint(DIGITS.images[..., None] * 255 / 16).astype(np.uint8)[:400]
NUMBERS = DIGITS.target[:400]
COLORS = np.repeat(GRAY, 3, -1)
# Things that look to either side: each image of a class may be its mirror image.
TURNED = np.random.default_rng(0).random(400) < 0.5
THINGS = np.where(TURNED[:, None, None, None], COLORS[:, :, ::-1], COLORS)
NAMES = np.array(["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st"])


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (GRAY, NUMBERS, "they have one channel"),
        (GRAY, NAMES[NUMBERS], "they have one channel"),
        (COLORS, NUMBERS, "classes differ from their mirror images"),
        (COLORS, NUMBERS.astype(str), "classes are digits or letters"),
        (COLORS, np.array([*"abcdefghij"])[NUMBERS], "classes are digits or letters"),
        (COLORS, np.array(["Left", "right turn"])[NUMBERS % 2], "left or right"),
        (COLORS, NAMES[NUMBERS], None),
        (THINGS, NUMBERS, None),
        (np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8),
         np.arange(60) % 10, None),
    ],
)  # fmt: skip
def test_arrays(images: np.ndarray, labels: np.ndarray, why: str | None):
    part = images, labels
    dataset = nobn.data.Dataset.from_data((part, part))
    actual = dataset.why_not_mirrored
    assert (actual is None) if why is None else (why in actual)
    flips = {
        (augment, flip): dataset.transform(augment, flip).flip
        for augment in ("standard", "crop")
        for flip in ("auto", "none", "horizontal")
    }
    assert {how for how, flipped in flips.items() if flipped} == {
        *[("standard", "auto")] * (why is None),
        *(("standard", "horizontal"), ("crop", "horizontal")),
    }


def test_without_augmentation_there_is_no_flip():
    dataset = nobn.data.open_dataset("digits")
    assert not dataset.transform("none").flip
    with pytest.raises(ValueError, match="nothing would be mirrored. Leave it out, or"):
        dataset.batches("test", 8, flip="horizontal")


def test_flips_are_of_half_of_the_images():
    """A bright left side that no crop moves to the right."""
    images = np.zeros((200, 16, 16, 3), np.uint8)
    images[:, :, 2:7] = 200
    part = images, np.arange(200) % 2
    dataset = nobn.data.Dataset.from_data((part, part))
    for flip, share in (("auto", 0.0), ("horizontal", 0.5)):
        x = np.concatenate([x for x, _ in dataset.batches("train", 50, flip=flip)])
        flipped = x[:, :, :8].sum((1, 2, 3)) < x[:, :, 8:].sum((1, 2, 3))
        assert abs(flipped.mean() - share) < 0.15  # four standard deviations


@pytest.mark.parametrize(
    ("classes", "channels", "mirrored"),
    [
        (("3", "7"), 3, False),
        (("b", "d"), 3, False),
        (("digit_0", "Digit-12"), 3, False),
        (("A_upper", "a_lower", "space"), 3, False),
        (("ж", "я"), 3, False),
        (("two", "five"), 3, False),
        (("keep left", "stop"), 3, False),
        (("cat", "dog"), 1, False),
        (("cat", "dog"), 3, True),
        (("x", "cat", "dog"), 3, True),
        (("type 1 cell", "type 2 cell"), 3, True),
    ],
)
def test_folders(
    classes: tuple[str, ...], channels: int, mirrored: bool, tmp_path: Path
):
    for number, name in enumerate(classes * 4):
        pixels = np.full((8, 8, channels), number, np.uint8).squeeze()
        place = tmp_path / "images" / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    for how in ({}, {"channels": 3}):  # gray as three channels is gray
        dataset = nobn.data.open_dataset(tmp_path / "images", holdout=0.3, **how)
        assert (dataset.why_not_mirrored is None) is mirrored


def test_sets_by_name():
    mirrored = {
        name: nobn.data.open_dataset(name).why_not_mirrored is None
        for name in nobn.data.NAMES
    }
    color = {"cifar10", "cifar100", "imagenet"}
    assert {name for name, is_so in mirrored.items() if is_so} == color


def test_words_are_no_symbols():
    for name in ("cat", "class one two", "001.Black", "", "_", "speed limit 30", "no"):
        assert not is_symbol(name)


def test_common_differences_of_chance_are_none():
    noise = np.random.default_rng(0).normal(size=(300, 6, 6, 1))
    assert common_difference(noise, np.arange(300) % 3) < 0.01
    ramp = np.arange(6.0)[None, None, :, None]
    # All of it: the squares of the differences 5, 3 and 1 over twice the variance 1.
    actual = common_difference(ramp + noise, np.arange(300) % 3)
    assert actual == pytest.approx((25 + 9 + 1) / 3 / 2, rel=0.05)
