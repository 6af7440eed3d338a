"""What a training says of its images and its network before the first step."""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn._tables import percent, wilson_interval
from larq_nobn.training import RunSettings
from larq_nobn.training._first_lines import first_lines
from PIL import Image
from scipy.stats import binomtest

NETWORK = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
NETWORK.build((None, 4, 4, 1))


@pytest.mark.parametrize(
    "right, count", [(0, 1), (1, 1), (19, 35), (999, 1000), (0, 9)]
)
def test_intervals_are_those_of_scipy(right: int, count: int):
    actual = wilson_interval(right / count, count)
    expected = binomtest(right, count).proportion_ci(method="wilson")
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_few_examples_are_said_with_an_interval():
    # SciPy's numbers for 19 of 35: 0.3819 and 0.6953.
    assert percent(19 / 35, 35) == "54.3 % of 35 images, 95 % interval 38.2 to 69.5 %"
    assert percent(1.0, 1) == "100.0 % of 1 image, 95 % interval 20.7 to 100.0 %"
    assert percent(0.5, 1000) == percent(0.5) == "50.0 %"


def lines_of(dataset: nobn.data.Dataset, **settings: object) -> str:
    chosen = {"model": "ResNet20", "width": 16, "epochs": 2, "batch_size": 8}
    config = RunSettings("plain", **{**chosen, **settings})
    return "\n".join(first_lines(config, dataset, NETWORK, 3, Path("runs/a")))


def given(counts: tuple[int, ...], shape: tuple[int, ...], floats: bool = False):
    labels = np.repeat([0, 1], counts)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), np.uint8)
    if floats:
        images = images / 100 - 1
    test = images[-9:], labels[-9:]
    return nobn.data.Dataset.from_data(((images, labels), test))


def test_arrays():
    said = lines_of(given((20, 16), (4, 4, 3)))
    for line in (
        "Images: 36 train (16 to 20 of each of 2 classes), 9 test (0 to 9 of each of",
        "Size: 4x4, 3 channels\n",
        "Augmentation: standard, padded by zeros, mirrored\n",
        "Mean and standard deviation: 0.",
        # Four bytes for each of 34 weights, and 600 a layer.
        "Network: ResNet20, nobn, alpha 0.2, ",
        "; 34 parameters, a TFLite file of about 1 kB\n",
        "Steps: 2 epochs of 3 steps, 8 images each; written to runs/a\n",
        "With only 9 test images, a measured accuracy of 50 % means 23 to 77 %.\n",
        "The test split is uneven: 0 of 0, 9 of 1.",
    ):
        assert line in said
    said = lines_of(given((400, 400), (4, 4, 1)), limit=400, mixup=0.2)
    assert "Images: 400 train (200 of each of 2 classes)" in said
    assert "not mirrored, they have one channel (--flip horizontal), mixup 0.2" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augment": "none"}, "Augmentation: none\n"),
        ({"augment": "crop", "reflect": True}, "crop, padded by reflection, not mirro"),
        ({"augment": "random_resized_crop"}, "tion: random_resized_crop, mirrored\n"),
        ({"flip": "none"}, "standard, padded by zeros, not mirrored\n"),
        ({"cutmix": 1.0}, "mirrored, cutmix 1\n"),
    ],
)
def test_augmentation(settings: dict, said: str):
    assert said in lines_of(given((20, 16), (4, 4, 3)), **settings)


def test_images_that_are_taken_as_they_are():
    said = lines_of(given((20, 16), (4, 4, 3), floats=True))
    assert "Mean and standard deviation: images are not normalized\n" in said
    part = tf.data.Dataset.from_tensor_slices(
        (np.zeros((9, 4, 4, 3)), np.arange(9) % 2)
    )
    said = lines_of(nobn.data.Dataset.from_data((part, part)))
    assert "Images: 9 train, 9 test; given\n" in said
    assert "Augmentation: none, images come from tf.data as they are\n" in said


def test_folders_of_several_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    for number in range(12):
        place = tmp_path / "images" / "train" / f"kind {number % 2}"
        (tmp_path / "images" / "test" / place.name).mkdir(parents=True, exist_ok=True)
        place.mkdir(parents=True, exist_ok=True)
        image = Image.new("L", (20 + number % 3, 10), number)
        image.save(place / f"{number}.png")
        image.save(tmp_path / "images" / "test" / place.name / f"{number}.png")
    root = tmp_path / "images"
    said = lines_of(nobn.data.open_dataset(root))
    assert (
        "Size: 96x96, 1 channel; images of 10x20 to 10x22 are cropped and scal" in said
    )
    size = {"image_size": (5, 10), "channels": 3}
    said = lines_of(nobn.data.open_dataset(root, **size), **size)
    assert "Size: 5x10, 3 channels; images of 10x20 to 10x22" in said
    assert "(--image-size)\n" in said
    assert "not mirrored, they have one channel" in said
