"""Files that no conversion of this package wrote: they run, or get one sentence."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from cli.answers import one_sentence
from click.testing import Result
from deploy.inspection.lite_files import edited
from larq_nobn._keras import keras

Invoke = Callable[..., Result]
pytestmark = pytest.mark.convert

COMMANDS = {
    "audit": ("audit", "{}"),
    "evaluate": ("evaluate", "{}", "--dataset", "digits", "--limit", "10"),
    "benchmark": ("benchmark", "{}", "--runs", "2", "--warmup", "0"),
}
each_command = pytest.mark.parametrize("command", COMMANDS)
RANDOM = np.random.default_rng(0)


def answer(invoke: Invoke, command: str, file: Path) -> Result:
    return invoke(*(str(file) if part == "{}" else part for part in COMMANDS[command]))


def test_every_command_that_reads_files_is_here(invoke: Invoke):
    for command in COMMANDS:
        assert ".tflite" in invoke(command, "--help").output


@each_command
def test_a_truncated_file(
    command: str, lite_file: Path, invoke: Invoke, tmp_path: Path
):
    content, file = lite_file.read_bytes(), tmp_path / "m.tflite"
    few, last = np.linspace(8, len(content) - 1, 12), len(content) - 4
    for length in (4, 7, *map(int, few), last):
        file.write_bytes(content[:length])
        said = one_sentence(answer(invoke, command, file))
        assert "is not a TFLite file" in said or "is a damaged TFLite file" in said


FOREIGN = {
    "empty": b"",
    "one byte": b"\0",
    "random": RANDOM.bytes(4000),
    "random with a header": b"\x1c\0\0\0TFL3" + RANDOM.bytes(4000),
    "zeros with a header": b"\x1c\0\0\0TFL3" + bytes(4000),
    "header alone": b"\x1c\0\0\0TFL3",
    "far root": b"\xff\xff\xff\x7fTFL3" + RANDOM.bytes(4000),
    "text": b"I am a model, trust me.\n" * 20,
    "a zip archive": b"PK\3\4" + RANDOM.bytes(500),
}


def test_what_is_no_file_of_a_network(invoke: Invoke, tmp_path: Path):
    file = tmp_path / "m.tflite"
    for command, content in zip(cycle(COMMANDS), FOREIGN.values()):
        file.write_bytes(content)
        said = one_sentence(answer(invoke, command, file))
        assert "is not a TFLite file" in said or "is a damaged TFLite file" in said


@pytest.fixture(scope="module")
def stock() -> Callable[..., bytes]:
    """Files of TensorFlow's own converter."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)

    def images():
        return ([RANDOM.random((1, 8, 8, 1), np.float32)] for _ in range(4))

    @functools.cache
    def convert(quantized: bool = False, int8: bool = False) -> bytes:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = images
        if int8:
            converter.inference_input_type = converter.inference_output_type = tf.int8
        with warnings.catch_warnings():
            # "Statistics for quantized inputs were expected": it has just asked them.
            warnings.simplefilter("ignore")
            return converter.convert()

    return convert


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("audit", {"quantized": True, "int8": True}),
        ("evaluate", {"quantized": True}),
        ("benchmark", {}),
    ],
)
def test_files_of_tensorflow_run(
    command: str, options: dict, stock: Callable, invoke: Invoke, tmp_path: Path
):
    file = tmp_path / "m.tflite"
    file.write_bytes(stock(**options))
    result = answer(invoke, command, file)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""


@each_command
def test_a_file_that_overwrites_its_constants(
    command: str, lite_file: Path, invoke: Invoke, tmp_path: Path
):
    def overwrite(model: Any) -> None:
        first = model.subgraphs[0].operators[0]
        first.outputs = first.inputs[1:2]

    file = tmp_path / "m.tflite"
    file.write_bytes(edited(lite_file.read_bytes(), overwrite))
    said = one_sentence(answer(invoke, command, file))
    assert "is a damaged TFLite file" in said


@pytest.mark.parametrize(
    ("command", "shape"),
    [
        ("benchmark", (0, 0, 0, 0)),
        ("benchmark", (1, 10**5, 10**5, 1)),
        ("evaluate", (1, 0, 8, 1)),
        ("evaluate", (1, 8, 8, 0)),
    ],
)
def test_inputs_that_nobody_has(
    command: str,
    shape: tuple[int, ...],
    lite_file: Path,
    invoke: Invoke,
    tmp_path: Path,
):
    """The interpreter divides by such sides, or allocates as much."""

    def reshape(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shape = np.array(shape, np.int32)

    file = tmp_path / "m.tflite"
    file.write_bytes(edited(lite_file.read_bytes(), reshape))
    data = ("--dataset", "digits") if command == "evaluate" else ()
    said = one_sentence(invoke(command, file, *data))
    assert "which is not the shape of an image" in said or "cannot run" in said


def test_names_that_are_no_text(lite_file: Path, invoke: Invoke, tmp_path: Path):
    def rename(model: Any) -> None:
        model.signatureDefs[0].inputs[0].name = b"\x9e\xff"

    file = tmp_path / "m.tflite"
    file.write_bytes(edited(lite_file.read_bytes(), rename))
    result = invoke("evaluate", file, "--dataset", "digits", "--limit", 8)
    assert result.exit_code == 0, result.output
