"""Files that no conversion of this package wrote: they run, or get one sentence."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fresh
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


@each_command
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_file_of_a_network(
    command: str, content: bytes, invoke: Invoke, tmp_path: Path
):
    file = tmp_path / "m.tflite"
    file.write_bytes(content)
    said = one_sentence(answer(invoke, command, file))
    assert "is not a TFLite file" in said or "is a damaged TFLite file" in said


@each_command
def test_a_keras_model_under_another_name(
    command: str, run_folder: Path, invoke: Invoke, tmp_path: Path
):
    file = tmp_path / "m.tflite"
    file.write_bytes((run_folder / "model.keras").read_bytes())
    assert "is not a TFLite file" in one_sentence(answer(invoke, command, file))


@each_command
def test_a_folder_and_nothing(command: str, invoke: Invoke, tmp_path: Path):
    (tmp_path / "folder.tflite").mkdir()
    for name in ("folder.tflite", "nothing.tflite"):
        assert name in one_sentence(answer(invoke, command, tmp_path / name))


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


@each_command
@pytest.mark.parametrize(
    "options",
    [{}, {"quantized": True}, {"quantized": True, "int8": True}],
    ids=["float", "int8 inside", "int8"],
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


@pytest.mark.parametrize("command", ["benchmark", "evaluate"])
@pytest.mark.parametrize(
    "shape", [(0, 0, 0, 0), (1, 0, 8, 1), (1, 8, 8, 0), (1, 10**5, 10**5, 1)]
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


@pytest.mark.parametrize(
    ("shape", "size", "needed"),
    [
        ((1 << 17, 8, 8, 1), 16, 4 * 2**17 * (8 * 8 + 16 * 16) * 16),
        ((1, 4096, 4097, 1), 16, 4 * 4096 * 4097 * (16 + 16)),
        ((1, 8, 8, 1), 1 << 13, 4 * (8 * 8 + 2**26) * 16),
    ],
    ids=["images at a time", "large images", "large maps"],
)
def test_a_file_gets_so_much_memory(
    shape: tuple[int, ...],
    size: int,
    needed: int,
    invoke: Invoke,
    tmp_path: Path,
):
    """The shapes of its maps stay as small as they were before it was changed."""
    inputs = x = keras.Input((8, 8, 1))
    # LiteRT takes memory for each pixel of a kernel and a pool.
    x = keras.layers.Conv2D(16, 1)(x)
    x = keras.layers.MaxPool2D(2, 1, padding="same")(x)
    x = keras.layers.UpSampling2D(2)(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))

    def enlarge(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shape = np.array(shape, np.int32)
        for buffer in model.buffers:
            if buffer.data is not None and bytes(buffer.data) == bytes(sides):
                buffer.data = np.array([size, size], np.int32).view(np.uint8)

    sides = np.array([16, 16], np.int32)
    file = tmp_path / "m.tflite"
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    file.write_bytes(edited(content, enlarge))
    for words in (("benchmark", file), ("evaluate", file, "--dataset", "digits")):
        assert one_sentence(invoke(*words)).endswith(
            f"The file takes {needed:,} bytes for what it computes at once, and gets "
            "2,147,483,648 at most. Convert a model with smaller images, or fewer of "
            "them at a time."
        )


def test_names_that_are_no_text(lite_file: Path, invoke: Invoke, tmp_path: Path):
    def rename(model: Any) -> None:
        model.signatureDefs[0].inputs[0].name = b"\x9e\xff"

    file = tmp_path / "m.tflite"
    file.write_bytes(edited(lite_file.read_bytes(), rename))
    result = invoke("evaluate", file, "--dataset", "digits", "--limit", 8)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_no_flipped_bit_ends_the_process(lite_file: Path, tmp_path: Path):
    """Native code runs the file, and would take Python down with it."""
    program = Path(__file__).with_name("flip_bits.py")
    done = fresh.run(program, [lite_file, 150])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[0] == "150"
