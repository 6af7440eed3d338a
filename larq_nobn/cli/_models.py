"""What the commands that take a trained model have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import tensorflow as tf

from .. import data, deploy, training
from .._keras import keras

model_argument = click.argument(
    "model", metavar="RUN_OR_FILE", type=click.Path(exists=True, path_type=Path)
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(),
    show_default="that of TensorFlow Datasets",
    help="Folder of prepared data sets.",
)
dataset_option = click.option(
    "--dataset",
    type=click.Choice(data.NAMES),
    show_default="that of the run",
    help="Whose test images to use.",
)


def open_run_or_file(path: Path) -> tuple[keras.Model, str | None]:
    """Returns the model, and the data set it was trained on if a run folder tells."""
    if not path.is_dir():
        return training.open_model(path), None
    run = training.load_run(path)
    return run.model, run.record["settings"]["dataset"]


def test_images(
    name: str, limit: int | None, data_dir: str | None = None
) -> tf.data.Dataset:
    """Returns normalized test images with labels, in their usual order."""
    return data.load(name, "test", 128, limit=limit, data_dir=data_dir)


def lite_predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that runs a `.tflite` file on a batch of images."""
    deploy.audit(path)  # has a sentence for what is no such file
    run = deploy.Runner(path.read_bytes())
    counts = len(run.input_names), len(run.output_names)
    if counts != (1, 1):
        raise ValueError(
            f"{path} has {counts[0]} inputs and {counts[1]} outputs, but only a file "
            "that takes images and gives classes can be evaluated."
        )
    return lambda images: run.outputs([images])[0]
