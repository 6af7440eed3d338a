"""Batches: their content, order, variation and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from larq_nobn.data import _images, _tfds, _tfds_images, load
from larq_nobn.data._augment import Transform, crop_and_flip
from larq_nobn.data._images import balanced_subset


def content(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    batches = list(dataset.as_numpy_iterator())
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


# --- content


def test_digits_are_normalized() -> None:
    images, _ = content(load("digits", "train", 721, augment=False))
    assert images.dtype == np.float32
    # The constants have four decimals.
    assert abs(images.mean()) < 3e-4 and abs(images.std() - 1) < 3e-4


def test_tfds_images_are_normalized_per_channel(cifar10: Path) -> None:
    images, labels = content(load("cifar10", "test", 7, data_dir=cifar10))
    raw = list(tfds.as_numpy(tfds.load("cifar10", split="test", data_dir=cifar10)))
    info = nobn.data.open_dataset("cifar10").info
    expected = np.stack([x["image"] for x in raw]).astype(np.float64) / 255
    expected = (expected - info.mean) / info.std
    # Two float32 roundings of values up to 3.
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_array_equal(labels, [x["label"] for x in raw])


def test_only_training_leaves_out_the_rest() -> None:
    train, test = load("digits", "train", 1000), load("digits", "test", 100)
    assert train.element_spec[0].shape == (1000, 8, 8, 1)
    assert train.element_spec[1].dtype == tf.int64
    assert (len(train), len(test)) == (1, 4)
    assert [len(labels) for _, labels in train] == [1000]
    assert [len(labels) for _, labels in test] == [100, 100, 100, 55]
    few = load("digits", "train", 128, limit=100)
    assert few.element_spec[0].shape == (100, 8, 8, 1)
    # A thread that tunes may miss the end; also of what goes on within an epoch.
    taken_on = load("digits", "train", 32, step=2).repeat()
    for data in (train, test, few, taken_on):
        assert data.options().autotune.enabled is False


# --- order and epochs


def test_an_epoch_depends_on_seed_and_number_only() -> None:
    some = {"batch_size": 16, "limit": 64}
    data = load("digits", "train", seed=3, **some)
    passes = [content(data) for _ in range(3)]
    again = content(load("digits", "train", seed=3, epoch=2, **some))
    for actual, expected in zip(again, passes[2], strict=True):
        np.testing.assert_array_equal(actual, expected)
    other = content(load("digits", "train", seed=4, **some))
    assert not np.array_equal(passes[0][1], other[1])
    # Without variation each epoch is another permutation.
    plain = load("digits", "train", augment=False, **some)
    orders = [[bytes(image) for image in content(plain)[0]] for _ in range(2)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    assert sorted(orders[0]) != sorted(map(bytes, passes[0][0]))


def test_limit_takes_the_first_of_each_class() -> None:
    _, labels = content(load("digits", "test", 9, limit=23))
    np.testing.assert_array_equal(np.bincount(labels), [3, 3, 3] + [2] * 7)
    all_labels = nobn.data.open_dataset("digits").labels("test")
    places = [
        place
        for place, label in enumerate(all_labels)
        if (all_labels[:place] == label).sum() < (3 if label < 3 else 2)
    ]
    np.testing.assert_array_equal(balanced_subset(all_labels, 23), places)
    assert len(balanced_subset(all_labels, 10_000)) == 355
    rare = np.array([1, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(balanced_subset(rare, 4), [0, 1, 2, 3])


# Mixed or not, batches are left out by their numbers, before there are images.
def test_a_pass_that_starts_within_an_epoch() -> None:
    options = {"limit": 32, "epoch": 2, "seed": 1, "mixup": 0.2, "cutmix": 1.0}
    options["augment"] = "randaugment"
    whole = load("digits", "train", 8, **options)
    rest = load("digits", "train", 8, step=3, **options)
    passes = [list(whole.as_numpy_iterator()) for _ in range(2)]
    for expected in (passes[0][3:], passes[1]):
        actual = list(rest.as_numpy_iterator())
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            for each, its in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(each, its)


@pytest.mark.parametrize(
    ("split", "options"),
    # Batches of two sizes, cut by their numbers, and those that have to be mixed first.
    [("test", {}), ("train", {"mixup": 0.2})],
    ids=["test", "mixed"],
)
def test_parts_of_replicas_are_the_batches(split: str, options: dict[str, Any]) -> None:
    # The last batch of the 25 test images is of one; three replicas share it.
    def parts(*share: int, **more: int) -> list[list[np.ndarray]]:
        dataset = load(
            "digits", split, 12, limit=25, seed=2, share=share, **more, **options
        )
        return list(dataset.as_numpy_iterator())

    whole = list(load("digits", split, 12, limit=25, seed=2, **options))
    first, others = parts(0, 1, 3), parts(1, 2, 3)
    assert (len(first), len(others)) == (len(whole), 2 * len(whole))
    for place, batch in enumerate(whole):
        actual = [first[place], *others[2 * place : 2 * place + 2]]
        assert max(len(part[1]) for part in actual) <= -(-len(batch[1]) // 3)
        for each, its in zip(batch, zip(*actual, strict=True), strict=True):
            np.testing.assert_array_equal(each, np.concatenate(its))
    later = parts(1, 2, 3, step=1)
    assert len(later) == len(others) - 2
    np.testing.assert_array_equal(later[0][0], others[2][0])


# --- augmentation


@pytest.mark.parametrize("reflect", [False, True])
def test_crop_and_flip_matches_a_loop(reflect: bool) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (6, 5, 7, 3), np.uint8)
    draws = np.array([[0, 0, 0], [4, 4, 1], [2, 2, 0], [2, 2, 1], [1, 3, 0], [3, 0, 1]])
    given = tf.constant(images), tf.constant(draws, tf.int32)
    result = crop_and_flip(*given, 2, reflect)
    for image, (top, left, mirrored), actual in zip(images, draws, result, strict=True):
        padded = np.pad(
            image, [(2, 2), (2, 2), (0, 0)], mode="reflect" if reflect else "constant"
        )
        expected = padded[top : top + 5, left : left + 7]
        np.testing.assert_array_equal(
            actual, expected[:, ::-1] if mirrored else expected
        )


def test_draws_are_uniform() -> None:
    draws = Transform("crop", True).draw(90_000, (0, 1), (32, 40, 3)).numpy()
    for column, values in zip(draws.T, (9, 9, 2), strict=True):
        counts = np.bincount(column, minlength=values)
        assert len(counts) == values
        # Six standard deviations of a binomial count.
        spread = 6 * np.sqrt(90_000 / values * (1 - 1 / values))
        assert np.all(abs(counts - 90_000 / values) < spread)


def test_digits_are_cropped_and_never_mirrored() -> None:
    draws = Transform("crop").draw(1000, (0, 1), (8, 8, 1)).numpy()
    assert set(draws[:, 2]) == {0}
    few = {"batch_size": 20, "limit": 20}
    plain, _ = content(load("digits", "test", **few))
    varied, _ = content(load("digits", "test", augment=True, reflect=True, **few))
    for before, after in zip(plain[..., 0], varied[..., 0], strict=True):
        padded = np.pad(before, 1, mode="reflect")
        crops = [padded[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        assert any(np.array_equal(crop, after) for crop in crops)


# --- ImageNet


class Files(_tfds.Examples):
    """Files in memory in the place of examples, of class 0, 1 and so on."""

    def __init__(self, files: list[bytes]) -> None:
        self.files, self._name, self._folder = files, "imagenet", "memory"

    def __len__(self) -> int:
        return len(self.files)

    def example(self, index: int) -> tuple[bytes, int]:
        return self.files[index], index


def imagenet_of(monkeypatch: pytest.MonkeyPatch, files: list[bytes]) -> None:
    """Makes these files the images of ImageNet."""
    monkeypatch.setattr(_tfds_images, "prepared_builder", lambda *_: None)
    monkeypatch.setattr(_tfds_images, "Examples", lambda *_: Files(files))
    _images.opened.cache_clear()


def test_imagenet_evaluation_and_an_app_get_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The app's steps have an oracle of exact fractions of their own."""
    sizes = [(480, 640), (333, 500), (501, 375), (225, 223), (37, 1001), (224, 224)]
    random = np.random.default_rng(0)
    files = [
        tf.io.encode_jpeg(random.integers(0, 256, (*size, 3), np.uint8)).numpy()
        for size in sizes
    ]
    imagenet_of(monkeypatch, files)
    info = nobn.data.open_dataset("imagenet").info
    app = nobn.deploy.Preprocessing(info.mean, info.std, (224, 224), info.crop)
    images, labels = content(load("imagenet", "test", 3, limit=5))
    expected = [app(nobn.data.decode(file)) for file in files[:5]]
    np.testing.assert_array_equal(images, np.concatenate(expected))
    np.testing.assert_array_equal(labels, range(5))
    small = load("imagenet", "test", 6, image_size=(16, 24))
    assert small.element_spec[0].shape[1:] == (16, 24, 3)


def test_random_parts_of_files_are_read_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ramp of two colors: means tell the middle of a part, and its size."""
    y, x = np.mgrid[:120, :90]
    ramp = np.stack([y * 2, x * 2, 0 * x], -1).astype(np.uint8)
    png = tf.io.encode_png(ramp).numpy()
    imagenet_of(monkeypatch, [png] * 60)
    options = {"augment": "random_resized_crop", "flip": "none", "image_size": (32, 48)}
    first, again = (content(load("imagenet", "train", 20, **options)) for _ in "ab")
    np.testing.assert_array_equal(first[0], again[0])
    assert sorted(first[1]) == [*range(60)]
    info = nobn.data.open_dataset("imagenet").info
    parts = (first[0] * info.std + info.mean) * 255 / 2
    rows = parts[..., 0].max((1, 2)) - parts[..., 0].min((1, 2))
    columns = parts[..., 1].max((1, 2)) - parts[..., 1].min((1, 2))
    # Of the largest part of 2:3, which has 60 rows and 90 columns. Its ends are means.
    assert rows.min() > 60 * 0.08**0.5 * 0.8 and rows.max() <= 60
    assert columns.max() <= 90 and len(np.unique(rows.round())) > 10
    ratio = columns / rows / 1.5
    assert np.median(ratio) == pytest.approx(1, abs=0.15)
    assert parts[..., 0].max() > 100 and parts[..., 0].min() < 20  # anywhere


def test_a_damaged_image_is_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imagenet_of(monkeypatch, [b"no image"])
    with pytest.raises(OSError) as caught, nobn.data.reading():
        list(load("imagenet", "test", 1))
    assert str(caught.value) == (
        "An image of imagenet in memory cannot be read: it is not a JPEG, PNG, WebP, "
        "BMP or GIF. Delete the folder of the set and prepare it again."
    )


# --- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar"}, "name must be one of digits, .* or tfds:NAME .*; got 'cif"),
        ({"split": "validation"}, r"digits has no validation split. .*\(--validation"),
        ({"validation": 1}, r"validation=1 is outside \[0, 1\)"),
        ({"epoch": -1}, "epoch=-1 is below 0. Counting starts at 0."),
        ({"limit": 0}, "limit=0 is below 1. Leave it out to use all images."),
        ({"augment": "blur"}, "augment must be one of none, crop, .*; got 'blur'"),
        ({"flip": "vertical"}, "flip must be one of auto, none, hor.*; got 'vertical'"),
        ({"channels": 2}, "channels=2 is neither 1 nor 3"),
        ({"channels": True}, "channels=True is neither 1 nor 3"),
        ({"image_size": (8, 8, 1)}, r"image_size=\(8, 8, 1\) is not a pair. Give heig"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    good = {"name": "digits", "split": "train", "batch_size": 32}
    with pytest.raises((ValueError, TypeError), match=message):
        load(**{**good, **arguments})


def test_missing_data(tmp_path: Path) -> None:
    for name, words in {"tfds:mnist": "", "imagenet": "--from FOLDER "}.items():
        with pytest.raises(FileNotFoundError) as caught:
            load(name, "test", 32, data_dir=tmp_path)
        assert str(caught.value) == (
            f"{name} is not prepared in {tmp_path}. Run: larq-nobn data {name} {words}"
            f"--data-dir {tmp_path}"
        )
