"""What is said about data sets, against what TFDS says about them."""

from __future__ import annotations

import larq_nobn as nobn
import pytest
import tensorflow_datasets as tfds


@pytest.mark.parametrize("name", nobn.data.NAMES)
def test_one_name_per_class_and_one_mean_per_channel(name: str) -> None:
    info = nobn.data.open_dataset(name).info
    assert info.name == name
    assert len(info.mean) == len(info.std) == info.image_shape[-1]
    expected = 0 if name == "imagenet" else info.classes
    assert len(set(info.class_names)) == len(info.class_names) == expected


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_shapes_and_classes_are_those_of_tfds(name: str) -> None:
    info = nobn.data.open_dataset(name).info
    features = tfds.builder(name).info.features
    assert features["image"].shape == info.image_shape
    assert features["label"].num_classes == info.classes
    if name.startswith("cifar"):
        # TFDS learns these names from the archive, where they are in this order.
        assert sorted(info.class_names) == list(info.class_names)
    else:
        assert tuple(features["label"].names) == info.class_names
