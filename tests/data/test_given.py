"""Images that are handed over in place of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import Dataset, _user_images
from numpy.testing import assert_allclose, assert_array_equal

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 6, 8, 3), np.uint8)
LABELS = np.arange(20) % 3
BOTH = (BYTES, LABELS)
FLOATS = BYTES.astype(np.float32) / 100 - 1


def streams(images: np.ndarray = FLOATS, size: int | None = 7) -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((images, LABELS))
    return data if size is None else data.batch(size)


def test_bytes_are_treated_as_a_data_set():
    parts = BOTH, (BYTES[:5], LABELS[:5])
    dataset = Dataset.from_data(parts)
    info = dataset.info
    assert info.image_shape == (6, 8, 3) and info.class_names == ("0", "1", "2")
    assert (info.train_examples, info.test_examples) == (20, 5)
    assert_allclose(info.mean, BYTES.mean((0, 1, 2)) / 255, atol=5.1e-5)
    assert_allclose(info.std, BYTES.std((0, 1, 2)) / 255, atol=5.1e-5)
    images, labels = next(iter(dataset.batches("test", 5)))
    small = Dataset.from_data(parts, image_size=(4, 5)).info
    assert_allclose(images, (BYTES[:5] / 255 - info.mean) / info.std, atol=1e-6)
    assert_array_equal(labels, LABELS[:5])
    assert small.image_shape == (4, 5, 3)


def test_floats_are_taken_as_they_are():
    parts = (FLOATS, LABELS), (FLOATS, LABELS[:, np.newaxis])
    dataset = Dataset.from_data(parts)
    info = dataset.info
    images, _ = next(iter(dataset.batches("test", 20)))
    train = dataset.batches("train", 8, augment=False)
    assert train.element_spec[0].shape == (8, 6, 8, 3) and len(train) == 2
    with pytest.raises(ValueError, match=r"image_size=\(4, 4\), channels=3 does not"):
        Dataset.from_data(parts, image_size=4).batches("test", 8)
    assert (info.mean, info.std) == ((), ())
    assert_array_equal(images, FLOATS)


@pytest.mark.parametrize("size", [7, None])
def test_streams_come_as_they_are(size: int | None):
    dataset = Dataset.from_data((streams(size=size), streams(size=size)))
    info = dataset.info
    train, test = dataset.batches("train", 8), dataset.batches("test", 8)
    few = dataset.batches("train", 128)
    assert (info.classes, info.train_examples, info.mean) == (3, 20, ())
    assert (len(train), len(test), len(few)) == (2, 3, 1)
    assert few.element_spec[0].shape == (20, 6, 8, 3)
    assert few.options().autotune.enabled is False  # as in `test_load.py`
    images, labels = zip(*test.as_numpy_iterator(), strict=True)
    assert_array_equal(np.concatenate(images), FLOATS)
    assert_array_equal(np.concatenate(labels), LABELS)
    assert [len(x) for x, _ in train] == [8, 8]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (BYTES, "data of type ndarray is not a pair. Give"),
        ((BOTH, streams()), "data contains both tf.data.Dataset and arrays"),
        ((BOTH, (BYTES[:2], LABELS)), r"images of shape \(2, 6, 8, 3\) and labels"),
        ((BOTH, (FLOATS, LABELS)), "and uint8, and of .* and float32. Give all of"),
        ((BOTH, (BYTES[:, 1:], LABELS)), r", and of \(5, 8, 3\) and uint8. Give all"),
        (
            ((BYTES, np.eye(3)[LABELS]),) * 2,
            r"of float64 and shape \(40, 3\). Give .* labels.argmax\(1\)",
        ),
        ((BOTH, (BYTES, LABELS.astype(str))), "labels of <U.* and shape .* Give whole"),
        (((BYTES, LABELS + 90),) * 2, "labels up to 92, but only 40 names or images"),
        ((streams().map(lambda x, y: x),) * 2, "Give pairs of images"),
        ((streams().repeat(),) * 2, "without an end. End it by .take"),
        ((streams(), streams().take(0)), "data contains no test images. Give some"),
    ],
)
def test_what_is_no_pair_of_images(given: Any, sentence: str):
    with pytest.raises((TypeError, ValueError), match=sentence):
        Dataset.from_data(given)


NAMES = np.array(["cat", "a dog", "bird"])


# Arrays, batches and examples are read alike: each kind of labels by one of them.
@pytest.mark.parametrize(
    ("kind", "labels", "names"),
    [
        ("batches", LABELS, "012"),
        ("examples", LABELS[:, np.newaxis], "012"),
        ("arrays", LABELS.astype(np.float32), "012"),
        ("arrays", NAMES[LABELS], sorted(NAMES)),
        ("arrays", NAMES[LABELS].astype(object)[:, np.newaxis], sorted(NAMES)),
    ],
    ids=["numbers", "column", "floats", "names", "objects"],
)
def test_labels_are_numbers_or_names(kind: str, labels: Any, names: Any):
    part: Any = (FLOATS, labels)
    if kind != "arrays":
        part = tf.data.Dataset.from_tensor_slices(part)
    if kind == "batches":
        part = part.batch(7)
    dataset = Dataset.from_data((part, part))
    assert dataset.info.class_names == tuple(names)
    actual = np.concatenate([y for _, y in dataset.batches("test", 8)])
    wanted = [sorted(NAMES).index(name) for name in NAMES[LABELS]]
    assert_array_equal(actual, LABELS if names == "012" else wanted)


def test_class_names_are_those_that_keras_leaves():
    train = streams()
    train.class_names = ["1", "10", "2"]
    for given in ((train, streams()), (streams(), train)):
        assert Dataset.from_data(given).info.class_names == ("1", "10", "2")
    test = streams()
    train.class_names, test.class_names = ["1", "10"], ["1", "10", "2"]
    with pytest.raises(ValueError, match="splits of different class names. Give image"):
        Dataset.from_data((train, test))
    with pytest.raises(ValueError, match="labels up to 2, but only 2 names or images"):
        Dataset.from_data((train, streams()))


def endless() -> Any:
    while True:
        yield FLOATS[0], 1
        yield FLOATS[1], 0


def test_data_sets_without_an_end_are_said_to_be(monkeypatch: pytest.MonkeyPatch):
    """Known length, of a generator or of parts of what repeats, is no reason."""
    monkeypatch.setattr(_user_images, "_COUNTED", 50)
    signature = tuple(tf.TensorSpec(x.shape, x.dtype) for x in (FLOATS[0], LABELS[0]))
    generated = tf.data.Dataset.from_generator(endless, output_signature=signature)
    filtered = streams(size=None).repeat().filter(lambda x, y: y < 2)
    for part in (generated, generated.batch(7), filtered, filtered.batch(4)):
        with pytest.raises(ValueError, match="a train data set of unknown len"):
            Dataset.from_data((part, streams()))
    known = tf.data.experimental.assert_cardinality(60)
    for part in (generated.take(45), generated.take(60).apply(known)):
        count = 45 if part is not None and part.cardinality() < 0 else 60
        assert Dataset.from_data((part, streams())).info.train_examples == count


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (BYTES.astype(np.float32), True),
        (BYTES / 2.0, True),
        (BYTES, False),
        (BYTES / 255.0, False),
        (FLOATS, False),
    ],
    ids=["bytes as floats", "half of them", "bytes", "fractions", "normalized"],
)
def test_pixels_that_nothing_normalizes_are_named(
    images: np.ndarray, said: bool, caplog: pytest.LogCaptureFixture
):
    Dataset.from_data(((images, LABELS), (images, LABELS)))
    assert ("nothing normalizes them" in caplog.text) is said
    caplog.clear()
    part = streams(images)  # as image_dataset_from_directory has them
    Dataset.from_data((part, part))
    assert ("values from 0 to" in caplog.text) is (said or images is BYTES)


def test_a_limit_takes_the_first_of_a_stream():
    dataset = Dataset.from_data((streams(), streams()))
    (images, _), *rest = dataset.batches("test", 8, limit=5).as_numpy_iterator()
    assert_array_equal(images, FLOATS[:5])
    assert not rest
    train = dataset.batches("train", 8, limit=5)
    assert len(train) == 1 and train.element_spec[0].shape[0] == 5


def test_channels_and_augmentation_of_arrays():
    gray, colors = BYTES[..., :1], BYTES
    for images, channels in ((gray, 3), (colors, 1), (colors, None)):
        part = images, LABELS
        dataset = Dataset.from_data((part, part), channels=channels)
        pixels = dataset.read([0, 3])
        weights = np.array([0.299, 0.587, 0.114])
        other = images[[0, 3]] if channels != 1 else images[[0, 3]] @ weights[:, None]
        assert_array_equal(pixels, np.broadcast_to(np.rint(other), pixels.shape))
        assert len(dataset.info.mean) == pixels.shape[-1] == (channels or 3)
    for augment in ("strong", "randaugment"):  # of the last one
        (x, _), *_ = dataset.batches("train", 8, augment=augment)
        assert np.isfinite(x).all() and x.shape == (8, *dataset.info.image_shape)
    floats = Dataset.from_data(((FLOATS, LABELS),) * 2)
    four = np.repeat(gray, 4, -1), LABELS
    for dataset in (floats, Dataset.from_data((four, four))):
        with pytest.raises(ValueError, match="='strong' needs images of bytes with 1"):
            dataset.batches("train", 8, augment="strong")
        assert len(dataset.batches("train", 8, augment="random_resized_crop")) == 2
    with pytest.raises(ValueError, match="channels=3 does not apply to images of fl"):
        _ = Dataset.from_data(((FLOATS[..., :1], LABELS),) * 2, channels=3).labels()
