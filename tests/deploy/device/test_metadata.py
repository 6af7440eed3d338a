"""The metadata of a file: content, when it is written, and when it is rejected."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy.nets import images, small
from larq_nobn._keras import keras
from larq_nobn.data import DatasetInfo
from larq_nobn.deploy import (
    Card,
    ConversionError,
    Preprocessing,
    TensorInfo,
    _convert,
    convert,
    read_card,
)
from numpy.testing import assert_array_equal

pytestmark = pytest.mark.convert

NAMES = ("one", "two", "three", "four", "fünf")
STEPS = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (8, 8), 0.875)


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def converted(model, tmp_path_factory):
    """A file and its card, as bytes: tests write them where they like."""
    path = tmp_path_factory.mktemp("card") / "model.tflite"
    convert(model, path, verify=False, labels=NAMES, preprocessing=STEPS)
    return path.read_bytes(), path.with_name("model.tflite.json").read_bytes()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def pair(converted, tmp_path):
    content, card = converted
    (tmp_path / "m.tflite").write_bytes(content)
    (tmp_path / "m.tflite.json").write_bytes(card)
    return tmp_path / "m.tflite"


def test_it_contains_what_an_app_needs(pair):
    content = pair.read_bytes()
    assert read_card(pair) == Card(
        file="model.tflite",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        runtime="lce",
        input=TensorInfo("input", (1, 8, 8, 3), "float32"),
        output=TensorInfo("output", (1, 5), "float32"),
        preprocessing=STEPS,
        labels=NAMES,
        dataset=None,
    )
    actual = json.loads(pair.with_name("m.tflite.json").read_text())
    assert (actual["format"], actual["version"]) == ("larq_nobn card", 1)
    assert actual["labels"] == list(NAMES)
    assert actual["preprocessing"] == {
        "height": 8,
        "width": 8,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "crop": 0.875,
    }


def test_it_is_written_replaced_and_removed_with_the_file(model, tmp_path):
    path, other = tmp_path / "m.tflite", tmp_path / "m.tflite.json"
    other.write_text('{"format": "mine"}')
    convert(model, path, verify=False)
    assert other.read_text() == '{"format": "mine"}'  # of somebody else
    other.unlink()
    convert(model, path, verify=False, preprocessing=STEPS)
    card = read_card(path)
    assert (card.labels, card.preprocessing) == (None, STEPS)
    convert(model, path, verify=False, labels=NAMES[::-1])
    assert (read_card(path).labels, read_card(path).preprocessing) == (
        NAMES[::-1],
        None,
    )
    convert(model, path, verify=False)
    assert files(tmp_path) == ["m.tflite"]


def test_it_names_the_data_set(model, tmp_path):
    path = tmp_path / "m.tflite"
    info = DatasetInfo("/home/me/pets", (8, 8, 3), 5, NAMES, mean=(0.5,), std=(0.25,))
    info = replace(info, mean=3 * info.mean, std=3 * info.std, holdout=0.2)
    report = convert(model, path, dataset=info, data=images(2))
    card = read_card(path)
    assert (card.dataset, card.labels) == ("pets", NAMES)  # not where the folder is
    assert card.holdout == 0.2
    assert card.preprocessing == replace(STEPS, crop=1.0)
    assert report.verify["data"] == "test images of pets"
    report = convert(model, path, dataset=replace(info, name="given"), data=images(2))
    assert (read_card(path).dataset, report.verify["data"]) == (None, "the given data")
    with pytest.raises(ValueError, match=r"'/home/me/pets' has 4 classes and images"):
        convert(model, path, dataset=replace(info, classes=4))


def test_a_conversion_that_fails_leaves_neither(model, tmp_path, monkeypatch):
    monkeypatch.setattr(_convert, "verify_operations", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(model, tmp_path / "m.tflite", labels=NAMES)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "stuck, labels", [("m.tflite", None), ("m.tflite.json", NAMES[::-1])]
)
def test_a_file_that_cannot_be_moved_leaves_the_old_one(
    model, pair, stuck, labels, monkeypatch
):
    before = [path.read_bytes() for path in sorted(pair.parent.iterdir())]
    move = os.replace

    def refusing(source, target):
        if stuck in (Path(source).name, Path(target).name):
            raise PermissionError(1, "Operation not permitted")
        move(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(OSError, match="cannot be written: Operation not permitted"):
        convert(model, pair, verify=False, labels=labels)
    assert files(pair.parent) == ["m.tflite", "m.tflite.json"]
    after = [path.read_bytes() for path in sorted(pair.parent.iterdir())]
    assert after == before


def of(inputs, outputs):
    return keras.Model(inputs, outputs, name="other")


IMAGE, BYTES = keras.Input((8, 8, 3)), keras.Input((8, 8, 3), dtype="uint8")
OTHERS = {
    "two outputs": of(IMAGE, [IMAGE, IMAGE + 1]),
    "bytes": of(BYTES, keras.layers.Rescaling(1 / 255)(BYTES)),
}


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("", {"labels": NAMES[:4]}, r"labels has 4 names, .* has shape \(5,\)"),
        ("", {"labels": "hello"}, "labels='hello' is not a list of names"),
        (
            "",
            {"preprocessing": replace(STEPS, size=(9, 8))},
            r"makes images of shape \(9, 8, 3\), but the model takes \(8, 8, 3\)",
        ),
        ("two outputs", {"labels": NAMES}, "'other' has 1 and 2. Leave them out"),
        ("bytes", {"preprocessing": STEPS}, "takes uint8. Leave it out"),
    ],
)
def test_what_does_not_fit_the_model_is_rejected(model, name, given, message, tmp_path):
    path = tmp_path / "m.tflite"
    with pytest.raises((TypeError, ConversionError), match=message):
        convert(OTHERS.get(name, model), path, allow_float=True, **given)
    assert files(tmp_path) == []


def changed(change):
    def write(card):
        actual = json.loads(card)
        change(actual)
        return json.dumps(actual).encode()

    return write


DAMAGED = r"m.tflite.json' is not an intact .*Convert"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda card: card[:-20], DAMAGED),
        (changed(lambda x: x.pop("format")), DAMAGED),
        (changed(lambda x: x["input"].update(shape="8x8")), DAMAGED),
        (
            changed(lambda x: x.update(version=2)),
            "has version 2, and this larq_nobn",
        ),
        (
            changed(lambda x: x["file"].update(sha256="0" * 64)),
            "describes another file than",
        ),
    ],
)
def test_a_damaged_or_foreign_metadata_is_one_sentence(pair, damage, message):
    card = pair.with_name("m.tflite.json")
    card.write_bytes(damage(card.read_bytes()))
    with pytest.raises(ConversionError, match=message):
        read_card(pair)


def test_int8_tensors_round_and_saturate():
    steps = TensorInfo("x", (1, 5), "int8", 0.5, 3)
    values = np.array([0, 0.75, 1.25, -100, 100], np.float32)
    encoded = steps.encode(values)
    assert encoded.dtype == np.int8
    assert_array_equal(encoded, [3, 5, 5, -128, 127])
    assert_array_equal(steps.decode(encoded), [0, 1, 1, -65.5, 62])
    floats = TensorInfo("x", (1, 5), "float32")
    assert_array_equal(floats.decode(floats.encode(values)), values)
