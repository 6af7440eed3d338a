"""Opens the trained network of a command, and the images that it classifies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from .._errors import InvalidValue
from .._names import DATASETS, GIVEN, TFDS_PREFIX, find_pretrained
from ..config._run_files import with_place
from . import _arguments
from ._console import progress
from ._package import data, deploy, keras, loading, models, population, training


@dataclass(frozen=True)
class Origin:
    """The images and settings that a network was trained with."""

    info: data.DatasetInfo
    # All settings of a run, or those of its images; empty for a file with metadata.
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None  # its name in the metadata of a file

    def at(self, dataset: str | None) -> Origin:
        """Returns an origin that has the path of the image folder, from `dataset`.

        Raises:
            FileNotFoundError: If neither the origin nor `dataset` has the path.
        """
        name = self.info.name
        nowhere = name in (*DATASETS, GIVEN) or name.startswith(TFDS_PREFIX)
        if nowhere or not self.settings:
            return self
        if dataset is not None and Path(dataset).name == name:
            settings = {**self.settings, "dataset": dataset}
            return Origin(replace(self.info, name=dataset), settings, self.dataset)
        if dataset is None and not os.path.isabs(name):
            raise FileNotFoundError(
                f"The images are those of a folder {name}, but the model does not "
                "contain its path. Give it by --dataset."
            )
        return self

    @property
    def dataset_arguments(self) -> dict[str, Any]:
        """The arguments of `data.open_dataset` for the images; empty if unknown."""
        known = {n: v for n, v in self.settings.items() if n in data.WHICH}
        return {**known, "name": self.settings["dataset"]} if self.settings else {}


def open_run_or_file(path: Path, trust: bool) -> tuple[keras.Model, Origin | None]:
    """Returns the model, and its origin if a run folder or the file contains it."""
    if not path.is_dir() and find_pretrained(path) is not None:
        model, row = models.open_pretrained(path)
        steps = row.preprocessing or {}
        info = data.DatasetInfo(
            *(row.dataset, row.input_shape, row.classes, row.class_names),
            mean=tuple(steps.get("mean", ())),
            std=tuple(steps.get("std", ())),
            crop=steps.get("crop", 1.0),
        )
        return model, Origin(info, {**row.settings, "dataset": row.dataset})
    if path.is_dir() and not loading.is_saved_model(path):
        run = training.load_run(path, trust)
        settings = with_place(path, run.record["settings"])
        info = replace(run.dataset, name=settings["dataset"])
        return run.model, Origin(info, settings)
    model = training.open_model(path, trust=trust)
    known = None if path.is_dir() else loading.read_dataset(path)
    if known is None:
        return model, None
    settings = with_place(path.parent, {"dataset": known.name})
    settings["image_size"] = known.image_shape[:2]
    if known.holdout is not None:
        settings["holdout"] = known.holdout
    return model, Origin(replace(known, name=settings["dataset"]), settings)


def open_network(
    path: Path, trust: bool, signature: str | None = None
) -> tuple[keras.Model, Origin | None]:
    """Opens a run, a file or a SavedModel, which has no origin and can only be run."""
    of_keras = trust and signature is None and (path / "keras_metadata.pb").exists()
    if of_keras or not loading.is_saved_model(path):
        return open_run_or_file(path, trust)
    return deploy._opening.with_known_sizes(path, None, None, signature), None


def is_lite(path: Path) -> bool:
    """Returns whether a path is a `.tflite` or `.c` file, in upper or lower case."""
    return not path.is_dir() and path.suffix.lower() in (".tflite", ".c")


def open_any(
    path: Path, trust: bool, strict: bool = False
) -> tuple[keras.Model | None, Origin | None]:
    """Opens a network, or returns None for a `.tflite` file; reads the origin of both.

    Damaged metadata raise an error, and missing metadata if `strict`.
    """
    if not is_lite(path):
        return open_network(path, trust)
    if not strict and not os.path.lexists(f"{path}.json"):
        return None, None
    metadata = deploy.read_card(path)
    steps, classes = metadata.preprocessing, int(metadata.output.shape[-1])
    if steps is None:
        return None, None
    info = data.DatasetInfo(
        *(path.name, steps.image_shape, classes, metadata.labels or ()),
        mean=tuple(steps.mean),
        std=tuple(steps.std),
        crop=steps.crop,
        holdout=metadata.holdout,
    )
    return None, Origin(info, dataset=metadata.dataset)


class ModelImages:
    """The images of a command, preprocessed for its network.

    Without `dataset` they are the test images of the network. Images of its own data
    set or of a folder get its preprocessing. If none is known, images get the size and
    channels of `model`, a network or a file, and the preprocessing of the options.
    """

    def __init__(
        self,
        dataset: str | None,
        origin: Origin | None,
        data_dir: str | None = None,
        model: keras.Model | Path | None = None,
    ) -> None:
        if origin is not None:
            origin = origin.at(dataset)
        which = _dataset_arguments(dataset, origin, model)
        known = origin is not None and origin.dataset_arguments
        self.size = None if known else which.get("image_size")
        if data_dir is not None:
            which["data_dir"] = data_dir
        with progress(f"opening {which['name']}"):
            self.dataset = data.open_dataset(**which)
        # The data set whose preprocessing to use; None for that of the images.
        self.like = _like_of(dataset, origin, self.dataset)
        if origin is None and (options := _arguments.preprocessing()):
            self.like = _described(self.dataset.info, **options)
        self.info = self.like or self.dataset.info

    def batches(
        self, split: str = "test", limit: int | None = None, shuffle: bool = False
    ) -> tf.data.Dataset:
        how: dict[str, Any] = {"shuffle": shuffle, "limit": limit, "like": self.like}
        with progress("opening images"):
            return self.dataset.batches(split, 128, augment=False, **how)


def _described(
    info: data.DatasetInfo,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    scale: float = 1 / 255,
) -> data.DatasetInfo:
    """Returns the description of images that are (scale * bytes - mean) / std."""
    (*size, channels), unit = info.image_shape, 255 * scale
    mean, std = (
        [x / unit for x in (each if len(each) > 1 else [*each] * channels)]
        for each in (mean, std)
    )
    if {len(mean), len(std)} != {channels}:
        raise InvalidValue(
            f"--mean or --std is not of {channels} channels, as the images are. Give "
            "one number, or one for each channel."
        )
    steps = deploy.Preprocessing(tuple(mean), tuple(std), (size[0], size[1]))
    return replace(info, mean=steps.mean, std=steps.std)


def _dataset_arguments(
    dataset: str | None, origin: Origin | None, model: keras.Model | Path | None
) -> dict[str, Any]:
    if origin is not None and dataset in (None, origin.info.name):
        return origin.dataset_arguments
    if origin is not None and origin.dataset_arguments:
        # No image of another folder was used for training, so test on all.
        return {"name": dataset, "holdout": 1.0}
    which: dict[str, Any] = {"name": dataset}
    if model is not None and (shape := shape_of(model)):
        which["image_size"] = shape[:2]
        if shape[2] in (1, 3) and dataset not in DATASETS:
            which["channels"] = shape[2]
    held_out = None if origin is None else origin.info.holdout
    if origin and held_out is not None and Path(str(dataset)).name == origin.dataset:
        which["holdout"] = held_out
    return which


def _like_of(
    dataset: str | None, origin: Origin | None, images: Any
) -> data.DatasetInfo | None:
    if origin is None:
        return None
    if dataset == origin.info.name or dataset not in DATASETS:
        return origin.info  # a folder has no preprocessing of its own
    if origin.dataset_arguments:
        return None
    # The metadata of a file apply to all data sets.
    known = ("name", "mean", "std", "crop")
    return replace(images.info, **{name: getattr(origin.info, name) for name in known})


def statistics_images(
    dataset: str | None, origin: Origin | None, data_dir: str | None, model: keras.Model
) -> tf.data.Dataset:
    """Returns some training images, those of the network if they are known."""
    if origin is not None and dataset is not None:
        origin = origin.at(dataset)
    known = origin and origin.dataset_arguments.get("name", GIVEN) != GIVEN
    if origin is not None and known and dataset not in (None, origin.info.name):
        dataset = data_dir = None  # they belong to the test images
    images = ModelImages(dataset, origin, data_dir, model)
    return images.batches("train", population.EXAMPLES, shuffle=True)


def shape_of(model: keras.Model | Path) -> tuple[int, int, int] | None:
    """Returns the image shape that a model or a file takes, if it is known."""
    shape = getattr(model, "input_shape", ())
    if isinstance(model, Path):
        tensors = lite_predictor(model).input_tensors
        shape = tensors[0].shape if len(tensors) == 1 else ()
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        return None
    return int(shape[1]), int(shape[2]), int(shape[3])


def lite_predictor(path: Path) -> deploy.Runner:
    deploy.audit(path)  # raises a clear error for another kind of file
    return deploy.Runner(path)
