"""Files that no conversion of this package wrote: they run, or get one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import Result
from larq_nobn._keras import keras

Invoke = Callable[..., Result]
pytestmark = pytest.mark.convert

COMMANDS = {
    "audit": ("audit", "{}"),
    "evaluate": ("evaluate", "{}", "--dataset", "digits", "--limit", "10"),
    "benchmark": ("benchmark", "{}", "--runs", "2", "--warmup", "0"),
}
RANDOM = np.random.default_rng(0)


def answer(invoke: Invoke, command: str, file: Path) -> Result:
    return invoke(*(str(file) if part == "{}" else part for part in COMMANDS[command]))


def test_files_of_tensorflow_run(invoke: Invoke, tmp_path: Path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, outputs))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    images = [[RANDOM.random((1, 8, 8, 1), np.float32)] for _ in range(4)]
    converter.representative_dataset = lambda: iter(images)
    file = tmp_path / "m.tflite"
    with warnings.catch_warnings():
        # "Statistics for quantized inputs were expected": it has just asked them.
        warnings.simplefilter("ignore")
        file.write_bytes(converter.convert())
    for command in COMMANDS:
        result = answer(invoke, command, file)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
