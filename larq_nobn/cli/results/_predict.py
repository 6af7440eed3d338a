"""`larq-nobn predict`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from ..._probabilities import as_probabilities
from .._arguments import Command, model_argument, trust_option
from .._console import emit_json, out, percent, progress
from .._models import Origin, lite_predictor, open_any
from .._outputs import json_option
from .._package import data, deploy, keras
from ._images import image_files, read_pixels

_BATCH = 32


@click.command(cls=Command)
@model_argument
@click.argument(
    "pictures",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
)
@click.option("--top", type=int, default=3, help="Number of classes to print.")
@trust_option
@json_option
def predict(
    model: Path, pictures: tuple[Path, ...], top: int, trust: bool, report: str | None
) -> None:
    """Print the most probable classes of images.

    RUN_OR_FILE is a run folder, the name of a trained network, or a .tflite file with
    its metadata (FILE.tflite.json). An IMAGE is a JPEG, PNG, WebP, BMP or GIF file, or
    a folder of such files. Images are preprocessed as in an evaluation.

    \b
    Example: larq-nobn predict runs/a cat.jpg dog.png
             larq-nobn predict model.tflite photographs --top 1 --json -
    """
    files = image_files(pictures)
    run, prepare, names = _classifier(model, trust)
    with progress() as bar:
        task = bar.add_task(f"classifying by {model}", total=len(files))
        images = _images(files, prepare)
        found = []
        for probabilities in _answers(run, images):
            label_names = names or tuple(map(str, range(len(probabilities))))
            found.append(_best(probabilities, label_names, top))
            bar.advance(task)
    result = [
        {"file": str(file), "predictions": predictions}
        for file, predictions in zip(files, found, strict=True)
    ]
    emit_json(result, report)
    if report != "-":
        out().print(_table(str(model), result))


def _classifier(
    model: Path, trust: bool
) -> tuple[Callable[[np.ndarray], np.ndarray], deploy.Preprocessing, tuple[str, ...]]:
    """What gives outputs for images, what makes images of pictures, class names."""
    network, origin = open_any(model, trust, strict=True)
    if origin is None:
        raise ValueError(
            f"{model} does not say how pictures are prepared for it. Give a run "
            "folder, or a .tflite file that was converted from one, with its "
            ".tflite.json."
        )
    if not origin.info.mean:
        raise ValueError(
            f"{model} takes images as they were given to it in Python, and does not "
            "say how pictures become such. Train it on a folder of pictures instead."
        )
    run = lite_predictor(model) if network is None else _as_the_file(network)
    return run, preprocessing_of(origin), origin.info.class_names


def _as_the_file(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """A network, in float32 even if it was trained in half precision."""
    if any(layer.compute_dtype in ("bfloat16", "float16") for layer in model.layers):
        with contextlib.suppress(deploy.ConversionError):
            model = deploy.prepared(model, allow_float=True)
    return model.predict_on_batch


def preprocessing_of(origin: Origin) -> deploy.Preprocessing:
    """What an evaluation, and an app, makes of a picture."""
    info: data.DatasetInfo = origin.info
    return deploy.Preprocessing(info.mean, info.std, info.image_shape[:2], info.crop)


def _images(
    files: Iterable[Path], prepare: deploy.Preprocessing
) -> Iterator[np.ndarray]:
    for file in files:
        yield prepare(read_pixels(file, prepare.image_shape[2]))[0]


def _answers(
    run: Callable[[np.ndarray], np.ndarray], images: Iterator[np.ndarray]
) -> Iterator[np.ndarray]:
    """The probabilities of the classes, image by image."""
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == _BATCH:
            yield from _probabilities(run, batch)
            batch = []
    if batch:
        yield from _probabilities(run, batch)


def _probabilities(
    run: Callable[[np.ndarray], np.ndarray], batch: list[np.ndarray]
) -> np.ndarray:
    outputs = np.asarray(run(np.stack(batch)))
    if outputs.ndim != 2:
        raise ValueError(
            f"The model gives outputs of shape {outputs.shape[1:]} for a picture, and "
            "no vector of classes. Choose a classifier."
        )
    return as_probabilities(outputs)


def _best(
    probabilities: np.ndarray, names: Sequence[str], top: int
) -> list[dict[str, Any]]:
    """The most probable classes; of equal ones the first comes first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [{"label": names[k], "probability": float(probabilities[k])} for k in order]


def _table(title: str, result: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"What {title} takes them for", title_justify="left")
    table.add_column("picture", overflow="fold")
    for place in range(max(len(each["predictions"]) for each in result)):
        table.add_column("class" if place == 0 else f"{place + 1}.", overflow="fold")
    for each in result:
        # A name may hold bytes that are no text.
        name = each["file"].encode(errors="replace").decode()
        cells = (
            f"{p['label']} {percent(p['probability'])}" for p in each["predictions"]
        )
        table.add_row(name, *cells)
    return table
