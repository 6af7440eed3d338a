"""The Android project, as far as it can be checked without building it."""

import importlib.util
import json
import re
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from cli.command_lines import assert_understood, lines_of
from deploy.nets import scrambled
from larq_nobn._names import METADATA_FORMAT
from larq_nobn.deploy.device._metadata import VERSION
from numpy.testing import assert_allclose

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples" / "android"
APP = PROJECT / "app"
KOTLIN = sorted(APP.rglob("*.kt"))


def script(name):
    spec = importlib.util.spec_from_file_location(name, PROJECT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected():
    return script("expected")


@pytest.fixture(scope="module")
def reference():
    return script("reference")


def source(name):
    (path,) = [path for path in KOTLIN if path.name == name]
    return path.read_text(encoding="utf-8")


def read_keys(kotlin, variable):
    """The keys of a JSON object that Kotlin reads, such as `file.size_bytes`."""
    calls = re.findall(rf'\b{variable}((?:\.(?:get\w+|isNull)\("\w+"\))+)', kotlin)
    return {".".join(re.findall(r'"(\w+)"', call)) for call in calls}


def test_expected_images_are_those_of_the_reference_where_the_test_looks(
    expected, monkeypatch, tmp_path
):
    assert expected.FILE.read_text(encoding="utf-8") == expected.text()
    monkeypatch.setattr(expected, "FILE", tmp_path / "expected.json")
    expected.main()
    assert len(json.loads((tmp_path / "expected.json").read_text())) == 5
    assert 'getResource("/expected.json")' in source("PreprocessingTest.kt")


def test_kotlin_reads_the_keys_that_are_written(expected):
    case = expected.cases()[0]
    assert read_keys(source("PreprocessingTest.kt"), "case") == set(case)
    card = case["card"]
    kotlin = source("Card.kt")
    top = {"format", "version", "file.size_bytes", "preprocessing", "scores", "labels"}
    top |= {"input"}
    assert read_keys(kotlin, "card") == top
    assert {key.split(".")[0] for key in top} <= set(card)
    assert "size_bytes" in card["file"]
    assert read_keys(kotlin, "steps") == set(card["preprocessing"])
    assert f'== "{METADATA_FORMAT}"' in kotlin
    assert f'getInt("version") == {VERSION}' in kotlin


def test_the_page_names_what_is_there(tmp_path, monkeypatch):
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`(\w+\.(?:kt|py))`", text):
        assert list(PROJECT.rglob(name)), name
    commands = lines_of(text)
    assert commands
    for words in commands:
        assert_understood(words, monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A network of random weights, its file, and an image."""
    folder = tmp_path_factory.mktemp("phone")
    model = nobn.models.ReActNet18((8, 8, 3), 4, width=8, blocks=(1, 1))
    steps = nobn.deploy.Preprocessing((0.5,) * 3, (0.25,) * 3, size=(8, 8))
    nobn.convert(
        scrambled(model),
        folder / "m.tflite",
        verify=False,
        labels=("north", "east", "south", "west"),
        preprocessing=steps,
    )
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    (folder / "p.png").write_bytes(tf.io.encode_png(picture).numpy())
    return model(steps(picture)).numpy()[0], folder


@pytest.mark.convert
def test_the_reference_names_the_classes_that_keras_finds(converted, reference, capsys):
    logits, folder = converted
    probabilities = tf.nn.softmax(logits).numpy()
    best = np.argsort(-probabilities)[:3]
    actual = reference.classify(folder / "m.tflite", folder / "p.png")
    names = np.array(["north", "east", "south", "west"])[best]
    assert [name for name, _ in actual] == list(names)
    assert_allclose([p for _, p in actual], probabilities[best], rtol=1e-3)
    reference.main([str(folder / "m.tflite"), str(folder / "p.png")])
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == list(names)
    assert shown[0].endswith("%")
