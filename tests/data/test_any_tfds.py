"""Sets of TensorFlow Datasets by their own names."""

from __future__ import annotations

import shutil
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow_datasets as tfds
from larq_nobn.data import _source, _tfds, _tfds_images


def test_images_labels_and_statistics(cifar10: Path):
    info = nobn.data.open_dataset("tfds:cifar10", data_dir=cifar10).info
    raw = list(tfds.as_numpy(tfds.load("cifar10", split="train", data_dir=cifar10)))
    train = np.stack([each["image"] for each in raw]) / 255
    assert info.image_shape == (32, 32, 3)
    assert info.class_names == nobn.data.open_dataset("cifar10").info.class_names
    assert (info.train_examples, info.test_examples) == (100, 20)
    np.testing.assert_allclose(info.mean, train.mean((0, 1, 2)), atol=5.1e-5)
    np.testing.assert_allclose(info.std, train.std((0, 1, 2)), atol=5.1e-5)
    options = {"augment": False, "shuffle": False, "data_dir": cifar10}
    images, labels = next(iter(nobn.data.load("tfds:cifar10", "train", 100, **options)))
    np.testing.assert_allclose(images, (train - info.mean) / info.std, atol=1e-6)
    np.testing.assert_array_equal(labels, [each["label"] for each in raw])


def test_an_image_is_decoded_as_often_as_the_cache_says(
    cifar10: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded, image_of = [], _tfds.image_of

    def decode(content, *arguments):
        decoded.append(content)
        return image_of(content, *arguments)

    monkeypatch.setattr(_tfds, "image_of", decode)
    monkeypatch.setattr(_source, "IN_MEMORY", 50_000)  # the files alone take more
    actual = []
    # Of 20 test images in two passes: decoded for good, or each time.
    for cache, times in (("memory", 20), ("disk", 20), ("none", 40)):
        options = {"data_dir": cifar10, "holdout": times / 100, "image_size": 9}
        dataset = nobn.data.open_dataset("tfds:cifar10", **options)
        labels, _ = dataset.labels("test"), dataset.info
        decoded.clear()
        images = dataset.batches("test", 7, cache=cache)
        actual += [np.concatenate([x for x, _ in images]) for _ in range(2)]
        assert len(decoded) == times == times // 20 * len(labels)
        assert dataset.class_counts() and dataset.files("test") is None
        assert len(decoded) == times
    for each in actual:
        np.testing.assert_array_equal(each, actual[0])


def test_sets_without_a_part_for_testing(
    cifar10: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_tfds_images, "_splits", lambda *_: {"train": "train"})
    options = {"data_dir": cifar10, "holdout": 0.25, "image_size": 8}
    info = nobn.data.open_dataset("tfds:cifar10", **options).info
    assert info.image_shape == (8, 8, 3)
    assert info.train_examples + info.test_examples == 100
    assert 10 < info.test_examples < 45  # four standard deviations of 25
    options["holdout"] = 1.0
    with pytest.raises(ValueError, match="There are no training images"):
        _ = nobn.data.open_dataset("tfds:cifar10", **options).info


def test_a_set_of_a_community_is_code():
    name = "huggingface:mnist"
    with pytest.raises(ValueError, match=f"tfds:{name} is not a name of Tensor"):
        nobn.data.open_dataset(f"tfds:{name}")


def test_features_import_nothing(
    cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A prepared set of a stranger, beside a module that its description names."""
    shutil.copytree(cifar10, tmp_path / "sets")
    (file,) = (tmp_path / "sets").glob("cifar10/*/features.json")
    text = file.read_text()
    text = text.replace("tensorflow_datasets.core.features.image_feature", "nobn_evil")
    assert "nobn_evil.Image" in text
    file.write_text(text)
    file.parent.rename(tmp_path / "elsewhere")
    file.parent.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "nobn_evil.py").write_text("open('written', 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="contains 'nobn_evil.Image', which is not a"):
        nobn.data.open_dataset("tfds:cifar10", data_dir=tmp_path / "sets")
    assert not (tmp_path / "written").exists()


class Splits:
    """A builder of which only the names of its splits are known."""

    def __init__(self, *names: str) -> None:
        self.info = self
        self.splits = dict.fromkeys(names)


@pytest.mark.parametrize(
    "there, used",
    [
        (["train", "test", "validation"], ("train", "validation", "test")),
        (["val", "train"], ("train", None, "val")),
        (["Training", "dev", "Testing"], ("Training", "dev", "Testing")),
        (["train", "unlabeled"], ("train", None, None)),
    ],
)
def test_splits_by_their_usual_names(there: list[str], used: tuple):
    actual = _tfds_images._splits("tfds:set", Splits(*there))
    assert tuple(map(actual.get, nobn.data.SPLITS)) == used


def test_what_there_is_not():
    with pytest.raises(ValueError, match="Datasets has no set 'no_such_set'"):
        nobn.data.load("tfds:no_such_set", "train", 4)
    with pytest.raises(ValueError, match="imdb_reviews has no image with a class"):
        nobn.data.load("tfds:imdb_reviews", "train", 4)


def test_damaged_records_are_reported_in_one_sentence(cifar10: Path, tmp_path: Path):
    shutil.copytree(cifar10, tmp_path / "sets")
    (file,) = (tmp_path / "sets").glob("cifar10/*/*train*")
    file.write_bytes(np.random.default_rng(0).bytes(1000))
    dataset = nobn.data.open_dataset("tfds:cifar10", data_dir=tmp_path / "sets")
    with pytest.raises(ValueError, match="is cut off: .* Prepare the data set again"):
        dataset.labels()
