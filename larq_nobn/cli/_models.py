"""A trained network that a command is given, and the images that it is for."""

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
    """Which images a network was trained on, and how."""

    info: data.DatasetInfo
    # Of the run, or those that open the data set; empty for a file with metadata.
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None  # what metadata name

    def at(self, dataset: str | None) -> Origin:
        """The same, with the path of its folder of images if it has none.

        Raises:
            FileNotFoundError: If there is no such path, as none was given either.
        """
        name = self.info.name
        nowhere = (*DATASETS, GIVEN)
        if name in nowhere or not self.settings or name.startswith(TFDS_PREFIX):
            return self
        if dataset is not None and Path(dataset).name == name:
            settings = {**self.settings, "dataset": dataset}
            return Origin(replace(self.info, name=dataset), settings, self.dataset)
        if dataset is None and not os.path.isabs(name):
            raise FileNotFoundError(
                f"The images are those of a folder {name}, whose path the model does "
                "not have. Give it by --dataset."
            )
        return self

    @property
    def images(self) -> dict[str, Any]:
        """The arguments of `data.open_dataset` that say which they are."""
        given = {n: v for n, v in self.settings.items() if n in data.WHICH}
        return {**given, "name": self.settings["dataset"]} if self.settings else {}


def open_run_or_file(path: Path, trust: bool) -> tuple[keras.Model, Origin | None]:
    """Returns the model, and what it was trained on if a run folder tells."""
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
        return run.model, Origin(
            replace(run.dataset, name=settings["dataset"]), settings
        )
    model = training.open_model(path, trust=trust)
    known = None if path.is_dir() else loading.read_dataset(path)
    if known is None:
        return model, None
    settings = with_place(path.parent, {"dataset": known.name})
    known = replace(known, name=settings["dataset"])
    settings["image_size"] = known.image_shape[:2]
    if known.holdout is not None:
        settings["holdout"] = known.holdout
    return model, Origin(known, settings)


def open_network(
    path: Path, trust: bool, signature: str | None = None
) -> tuple[keras.Model, Origin | None]:
    """Opens a function of a SavedModel, too, which is run and no more."""
    if not loading.is_saved_model(path) or (trust and signature is None):
        return open_run_or_file(path, trust)
    return deploy._opening.with_known_sizes(path, None, None, signature), None


def is_lite(path: Path) -> bool:
    """Whether a model is a `.tflite` or `.c` file; converting takes any case, too."""
    return not path.is_dir() and path.suffix.lower() in (".tflite", ".c")


def open_any(
    path: Path, trust: bool, strict: bool = False
) -> tuple[keras.Model | None, Origin | None]:
    """Opens a `.tflite` file, too: returns no model then, and what its metadata says.

    They have to be intact, and, if `strict`, there.
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


class Images:
    """The images that a command looks at, as a network takes them.

    Without a data set they are those that the network was tested on; images of the same
    or of a folder are prepared as it wants them, and those of a file that does not say
    how, in the `size` and channels that `model` takes, a network or a `.tflite` file,
    and by the options for them.
    """

    def __init__(
        self,
        dataset: str | None,
        origin: Origin | None,
        data_dir: str | None = None,
        model: keras.Model | Path | None = None,
    ) -> None:
        self.size: tuple[int, int] | None = None
        if origin is not None:
            origin = origin.at(dataset)
        own = origin is not None and dataset in (None, origin.info.name)
        which: dict[str, Any] = {"name": dataset}
        if origin is not None and own:
            which = origin.images
        elif origin is not None and origin.images:
            # All of a folder without a part for testing: nothing was trained on.
            which["holdout"] = 1.0
        elif dataset is not None and model is not None:
            shape = shape_of(model)
            which["image_size"] = self.size = shape and shape[:2]
            if shape and shape[2] in (1, 3) and dataset not in DATASETS:
                which["channels"] = shape[2]
        if data_dir is not None:
            which["data_dir"] = data_dir
        if origin is not None and dataset is not None and not origin.images:
            held_out = origin.info.holdout  # of the folder of that name
            if held_out is not None and Path(dataset).name == origin.dataset:
                which["holdout"] = held_out
        with progress(f"opening {which['name']}"):
            self.dataset = data.open_dataset(**which)
        self._like: data.DatasetInfo | None = None
        # Nothing else says how images of a folder are to be prepared.
        if origin is not None and (own or dataset not in DATASETS):
            self._like = origin.info
        elif origin is not None and not origin.images:
            # Metadata of a file say how its images are prepared, whichever they are.
            known = ("name", "mean", "std", "crop")
            said = {name: getattr(origin.info, name) for name in known}
            self._like = replace(self.dataset.info, **said)
        if origin is None and (options := _arguments.preprocessing()):
            self._like = _prepared(self.dataset.info, **options)
        self.info = self._like or self.dataset.info

    def batches(
        self, split: str = "test", limit: int | None = None, shuffle: bool = False
    ) -> tf.data.Dataset:
        """Returns normalized images with labels, in their usual order."""
        how: dict[str, Any] = {"shuffle": shuffle, "limit": limit, "like": self._like}
        with progress("opening images"):
            return self.dataset.batches(split, 128, augment=False, **how)

    def files(self, split: str, limit: int | None) -> tuple[str, ...] | None:
        """Names the files of the same images; None where they lie in none."""
        return self.dataset.files(split, limit, self._like)


def _prepared(
    info: data.DatasetInfo,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    scale: float = 1 / 255,
) -> data.DatasetInfo:
    """Returns what stands for images that are (scale * bytes - mean) / std."""
    (*size, channels), unit = info.image_shape, 255 * scale
    mean, std = (
        [x / unit for x in (given if len(given) > 1 else [*given] * channels)]
        for given in (mean, std)
    )
    if {len(mean), len(std)} != {channels}:
        raise InvalidValue(
            f"--mean or --std is not of {channels} channels, as the images are. Give "
            "one number, or one for each channel."
        )
    steps = deploy.Preprocessing(tuple(mean), tuple(std), (size[0], size[1]))
    return replace(info, mean=steps.mean, std=steps.std)


def statistics_images(
    dataset: str | None, origin: Origin | None, data_dir: str | None, model: keras.Model
) -> tf.data.Dataset:
    """Returns some training images, the network's own if those are known."""
    if origin is not None and dataset is not None:
        origin = origin.at(dataset)
    known = origin is not None and origin.images.get("name", GIVEN) != GIVEN
    if origin is not None and known and dataset not in (None, origin.info.name):
        dataset = data_dir = None  # of the other images
    images = Images(dataset, origin, data_dir, model)
    return images.batches("train", population.EXAMPLES, shuffle=True)


def shape_of(model: keras.Model | Path) -> tuple[int, int, int] | None:
    """Returns the shape of an image that a model or a file takes, if known."""
    if not isinstance(model, Path):
        shape = getattr(model, "input_shape", ())
    else:
        tensors = lite_predictor(model).input_tensors
        shape = tensors[0].shape if len(tensors) == 1 else ()
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        return None
    return int(shape[1]), int(shape[2]), int(shape[3])


def lite_predictor(path: Path) -> deploy.Runner:
    deploy.audit(path)  # has a sentence for what is no such file
    return deploy.Runner(path)
