"""What the commands that take a trained model have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .._names import DATASETS, GIVEN, find_pretrained
from ._console import working
from ._package import data, deploy, keras, models, population, training

# The settings of a run that say which images it is of.
_IMAGES = ("image_size", "holdout", "skip_unreadable", "data_dir", "validation")


@dataclass(frozen=True)
class Origin:
    """Which images a network was trained on, and tested on.

    Arguments:
        info: What is known of them.
        images: The arguments of `data.describe` that say which they are.
    """

    info: data.DatasetInfo
    images: Mapping[str, Any]


def open_run_or_file(path: Path, trust: bool) -> tuple[keras.Model, Origin | None]:
    """Returns the model, and what it was trained on if a run folder tells."""
    if not path.is_dir() and find_pretrained(path) is not None:
        model, row = models.open_pretrained(path)
        return model, _origin_of_row(row)
    if not path.is_dir() or training.folder.is_saved_model(path):
        return training.open_model(path, trust=trust), None
    run = training.load_run(path, trust)
    return run.model, origin_of(run)


def _origin_of_row(row: models.PretrainedNetwork) -> Origin:
    steps = row.preprocessing or {"mean": (), "std": ()}
    info = data.DatasetInfo(
        name=row.dataset,
        image_shape=row.input_shape,
        classes=row.classes,
        class_names=row.class_names,
        train_examples=0,
        test_examples=0,
        mean=tuple(steps["mean"]),
        std=tuple(steps["std"]),
        crop=steps.get("crop", 1.0),
    )
    images = {name: row.settings[name] for name in _IMAGES if name in row.settings}
    return Origin(info, {**images, "name": row.dataset})


def open_any(
    path: Path, trust: bool, strict: bool = False
) -> tuple[keras.Model | None, Origin | None]:
    """The same, also of a `.tflite` file: no model then, and what its card says.

    Arguments:
        path: A run folder, or a `.keras`, `.h5` or `.tflite` file.
        trust: Whether code from the file of a Keras model may run.
        strict: Whether a `.tflite` file has to have a card with a preparation.
    """
    if path.is_dir() or path.suffix != ".tflite":
        return open_run_or_file(path, trust)
    if not strict and not Path(f"{path}.json").is_file():
        return None, None
    try:
        card = deploy.read_card(path)
    except deploy.ConversionError:
        if strict:
            raise
        return None, None
    steps = card.preprocessing
    if steps is None:
        return None, None
    info = data.DatasetInfo(
        name=path.name,
        image_shape=steps.image_shape,
        classes=int(card.output.shape[-1]),
        class_names=card.labels or (),
        train_examples=0,
        test_examples=0,
        mean=steps.mean,
        std=steps.std,
        crop=steps.crop,
    )
    return None, Origin(info, {})


def origin_of(run: training.Run) -> Origin:
    """What a run was trained on."""
    settings = run.record["settings"]
    images = {name: settings[name] for name in _IMAGES if name in settings}
    return Origin(run.dataset, {**images, "name": settings["dataset"]})


def test_images(
    dataset: str | None,
    origin: Origin | None,
    limit: int | None,
    data_dir: str | None = None,
    split: str = "test",
) -> tf.data.Dataset:
    """Returns normalized images with labels, in their usual order.

    Arguments:
        dataset: Whose they are; None for those that the network was tested on.
        origin: What the network was trained on; images of the same or of a folder are
            prepared as it wants them.
        limit: How many at most.
        data_dir: Folder of prepared data sets; None for that of the run.
        split: Which of the images.
    """
    images = _arguments(dataset, origin, limit, data_dir)
    with working(f"opening {images['name']}"):
        return data.load(
            split=split, batch_size=128, augment=False, shuffle=False, **images
        )


def statistics_images(
    dataset: str | None, origin: Origin | None, data_dir: str | None = None
) -> tf.data.Dataset:
    """Returns some training images, of which batch norms take statistics.

    Arguments:
        dataset: Whose they are if the network does not say what it was trained on.
        origin: What it was trained on.
        data_dir: Folder of prepared data sets; None for that of the run.
    """
    known = origin is not None and origin.images.get("name", GIVEN) != GIVEN
    if known and not _own(dataset, origin):
        dataset, data_dir = None, None  # that folder has the other images
    images = _arguments(dataset, origin, population.EXAMPLES, data_dir)
    return data.load(split="train", batch_size=128, augment=False, **images)


def test_files(
    dataset: str | None,
    origin: Origin | None,
    limit: int | None,
    data_dir: str | None = None,
    split: str = "test",
) -> tuple[str, ...] | None:
    """Names the files of the same images; None where they lie in none."""
    return data.files_of(split=split, **_arguments(dataset, origin, limit, data_dir))


def _arguments(
    dataset: str | None, origin: Origin | None, limit: int | None, data_dir: str | None
) -> dict[str, Any]:
    """Those of `data.load` that say which images are meant."""
    images: dict[str, Any] = {"limit": limit}
    own = _own(dataset, origin)
    if origin is not None and own:
        images |= origin.images
    else:
        images["name"] = dataset
        if origin is not None and origin.images:
            # All of a folder without a part for testing: nothing was trained on.
            images["holdout"] = 1.0
    if data_dir is not None:
        images["data_dir"] = data_dir
    if origin is not None and _alike(dataset, origin):
        images["like"] = origin.info
    return images


def prepared_as(
    dataset: str | None, origin: Origin | None, data_dir: str | None = None
) -> data.DatasetInfo:
    """The classes, size, mean and deviation that `test_images` gives images."""
    if origin is not None and _alike(dataset, origin):
        return origin.info
    assert dataset is not None
    return data.describe(dataset, data_dir=data_dir)


def _own(dataset: str | None, origin: Origin | None) -> bool:
    """Whether the images are those that a network was tested on."""
    return origin is not None and dataset in (None, origin.info.name)


def _alike(dataset: str | None, origin: Origin) -> bool:
    """Whether images are prepared as the network wants: nothing else says how."""
    return _own(dataset, origin) or dataset not in DATASETS


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
    taken = run.input_tensors[0].shape[1:]

    def predict(images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != taken:
            raise ValueError(
                f"{path} takes images of shape {tuple(taken)}, but these have "
                f"{images.shape[1:]}. Choose the data set that it was trained on."
            )
        return run.outputs([images])[0]

    return predict
