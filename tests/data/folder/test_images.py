"""What a network gets of images: size, values, order, and what an app would get."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import _images, load
from larq_nobn.data.folder import _decode
from PIL import Image

from .conftest import Write

SIZES = [(7, 9, 3), (12, 8, 3), (30, 21, 3), (5, 5, 3)]


@pytest.fixture
def mixed(root: Path, write: Write) -> Path:
    """Images of several sizes, by folders of both splits."""
    for number, shape in enumerate(SIZES):
        name = "cat" if number % 3 else "dog"
        for split in ("train", "test"):
            seed = number + (50 if split == "test" else 0)
            write(f"{split}/{name}/{number:02}.png", seed, shape)
    return root


def content(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def pictures(root: Path, split: str) -> list[tuple[np.ndarray, str]]:
    """Pixels and class of the files of a split, by name of the file."""
    files = sorted((root / split).rglob("*.png"), key=lambda path: path.name)
    return [(np.asarray(Image.open(path)), path.parent.name) for path in files]


def resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean of all that a new pixel touches in the largest middle part."""
    rows = min(x.shape[0], x.shape[1] * height // width)
    columns = min(x.shape[1], x.shape[0] * width // height)
    top, left = (x.shape[0] - rows) // 2, (x.shape[1] - columns) // 2
    x = x[top : top + rows, left : left + columns].astype(np.float64)
    out = np.empty((height, width, x.shape[2]))
    for i in range(height):
        for j in range(width):
            high = slice(i * rows // height, -(-(i + 1) * rows // height))
            wide = slice(j * columns // width, -(-(j + 1) * columns // width))
            out[i, j] = x[high, wide].mean((0, 1))
    return out


def test_sizes_values_and_statistics(mixed: Path):
    size = (10, 4)  # of images that are smaller and larger
    info = nobn.data.open_dataset(mixed, image_size=size).info
    assert info.image_shape == (*size, 3)
    train = np.stack([np.rint(resized(x, *size)) for x, _ in pictures(mixed, "train")])
    # Four decimals are kept.
    np.testing.assert_allclose(info.mean, train.mean((0, 1, 2)) / 255, atol=5.1e-5)
    np.testing.assert_allclose(info.std, train.std((0, 1, 2)) / 255, atol=5.1e-5)
    images, labels = content(load(mixed, "test", 5, image_size=size))
    expected = [resized(x, *size) / 255 for x, _ in pictures(mixed, "test")]
    expected = (np.stack(expected) - info.mean) / info.std
    np.testing.assert_allclose(images, expected, atol=3e-6)
    names = [info.class_names[label] for label in labels]
    assert names == [name for _, name in pictures(mixed, "test")]
    plain = load(mixed, "train", 4, image_size=size, augment=False, shuffle=False)
    expected = (train / 255 - info.mean) / info.std
    np.testing.assert_allclose(content(plain)[0], expected, atol=3e-6)


@pytest.mark.parametrize("size", [None, (5, 6), 200])
def test_a_folder_is_decoded_once_before_the_first_step(
    size: tuple[int, int] | None, mixed: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is kept meanwhile is what its file says, in bytes and in exact means."""
    decoded, pixels = [], _decode._pixels
    counted = lambda image: decoded.append(1) or pixels(image)  # noqa: E731
    monkeypatch.setattr(_decode, "_pixels", counted)

    def all_of() -> list[np.ndarray]:
        dataset = nobn.data.open_dataset(mixed, image_size=size)
        assert dataset.info.train_examples == 4
        how = {"augment": "none", "shuffle": False}
        parts = (content(dataset.batches(s, 4, **how)) for s in ("train", "test"))
        return [x for part in parts for x in part]

    first = all_of()
    assert len(decoded) == 8
    _images.opened.cache_clear()
    for kept, read in zip(first, all_of(), strict=True):  # opened again, and known
        np.testing.assert_array_equal(kept, read)
    assert len(decoded) == 16


def test_an_app_gets_the_same_bits(mixed: Path):
    info = nobn.data.open_dataset(mixed, image_size=(9, 4)).info
    # Also for a network that was trained on ImageNet: 224 of 256 pixels per side.
    for crop in (info.crop, 224 / 256):
        info = replace(info, crop=crop)
        prepare = nobn.deploy.Preprocessing(info.mean, info.std, (9, 4), crop)
        images, _ = content(load(mixed, "test", 5, like=info))
        expected = [prepare(x) for x, _ in pictures(mixed, "test")]
        np.testing.assert_array_equal(images, np.concatenate(expected))


def test_a_crop_of_images_in_memory_is_that_of_the_network():
    info = replace(nobn.data.open_dataset("digits").info, crop=0.75)
    prepare = nobn.deploy.Preprocessing(info.mean, info.std, (8, 8), info.crop)
    raw = nobn.data.open_dataset("digits").read(range(20), "test")
    part = raw, np.arange(20) % 10
    given = nobn.data.Dataset.from_data((part, part))
    images, _ = content(given.batches("test", 20, like=info))
    np.testing.assert_array_equal(images, prepare(raw))


def test_the_usual_size(root: Path, write: Write):
    for split in ("train", "test"):
        for name in ("a", "b"):
            write(f"{split}/{name}/{name}.png", shape=(7, 9, 3))
    assert nobn.data.open_dataset(root).info.image_shape == (7, 9, 3)
    write("train/a/c.png", shape=(9, 7, 3))
    assert nobn.data.open_dataset(root).info.image_shape == (96, 96, 3)
    for path in root.rglob("*.png"):  # large ones, though of one size
        Image.new("RGB", (230, 225)).save(path)
    assert nobn.data.open_dataset(root).info.image_shape == (96, 96, 3)


def test_grey_images_have_one_channel(root: Path, write: Write):
    for split in ("train", "test"):
        for name in ("a", "b"):
            write(f"{split}/{name}/{name}.png", shape=(6, 6))
    info = nobn.data.open_dataset(root).info
    assert (info.image_shape, len(info.mean)) == ((6, 6, 1), 1)
    write("test/b/colour.png", shape=(6, 6, 3))
    assert nobn.data.open_dataset(root).info.image_shape == (6, 6, 3)
    images, _ = content(load(root, "train", 2, like=replace(info)))
    assert images.shape == (2, 6, 6, 1)
    # Images of colours for a network of grey ones: their brightness.
    images, _ = content(load(root, "test", 3, like=info))
    colour = pictures(root, "test")[2][0]
    grey = colour @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(
        images[2, ..., 0] * info.std[0] + info.mean[0], grey / 255, atol=1e-6
    )


def test_images_like_those_of_another_set(mixed: Path, root: Path, write: Write):
    info = nobn.data.open_dataset(mixed, image_size=5).info
    info = replace(info, class_names=("dog", "horse", "cat"), classes=3)
    images, labels = content(load(mixed, "test", 4, like=info))
    assert images.shape == (4, 5, 5, 3)
    ours = nobn.data.open_dataset(mixed).info.class_names
    assert Counter(labels.tolist()) == {2: 2, 0: 2} and ours == ("cat", "dog")
    write("test/elephant/x.png")
    with pytest.raises(ValueError, match="1 classes of .* not among .*: elephant; "):
        load(mixed, "test", 4, like=info)
