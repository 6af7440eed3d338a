"""`larq-nobn predict`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from .._errors import InvalidValue
from .._files import files_below
from .._names import IMAGE_SUFFIXES
from . import _arguments, _console
from ._inputs import ModelImages, lite_predictor, open_any
from ._outputs import json_option
from ._package import data, deploy, keras, population

_BATCH = 32


@click.command(cls=_arguments.Command)
@_arguments.model_argument
@click.argument(
    "paths",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@click.option("--top", type=int, default=3, help="Number of classes to print.")
@click.option(
    "--dataset",
    type=_arguments.DATASET,
    show_default="what RUN_OR_FILE says",
    help="Data set that a model file without metadata was trained on. Images get its "
    "mean and standard deviation and the model's size; classes get its names.",
)
@_arguments.preprocessing_options
@_arguments.data_dir_option
@_arguments.trust_option
@json_option
@click.pass_context
def predict(
    ctx: click.Context,
    model: Path,
    paths: tuple[Path, ...],
    top: int,
    dataset: str | None,
    data_dir: str | None,
    trust: bool,
    json_path: str | None,
) -> None:
    """Print the most probable classes of images.

    RUN_OR_FILE is a run folder, the name of a trained network (larq-nobn models), a
    packed .npz file, a .tflite file with metadata (FILE.tflite.json), a .keras file
    that contains the name of its data set, or, with --dataset, any .keras, .h5 or
    .tflite file. An IMAGE is a JPEG, PNG, WebP, BMP or GIF file, or a folder of them.
    Images are preprocessed as by evaluate.

    \b
    Example: larq-nobn predict runs/a cat.jpg dog.png
             larq-nobn predict model.tflite photos --top 1 --json -
             larq-nobn predict mine.keras cat.jpg --dataset cifar10
    """
    files = image_files(paths)
    network, origin = open_any(model, trust, strict=dataset is None)
    info = None
    if origin is not None:
        if dataset is None or dataset != origin.at(dataset).info.name:
            unused = ["dataset", "data_dir"]
            _arguments.check_unused(ctx, unused, f"for {model}, which has metadata")
        _arguments.preprocessing(unused=True)
        info = origin.info
    elif dataset is not None:
        info = ModelImages(dataset, None, data_dir, network or model).info
    if info is None or not info.mean:
        raise InvalidValue(
            f"{model} does not contain the preprocessing of its images. Name the data "
            "set that it was trained on, such as --dataset cifar10, or give a run "
            "folder that was trained on a data set or an image folder."
        )
    prepare = deploy.device.preprocessing_of(info)
    run: Any = lite_predictor(model) if network is None else _as_the_file(network)
    result = []
    with _console.progress(f"classifying by {model}", len(files)) as advance:
        for start in range(0, len(files), _BATCH):
            chunk = files[start : start + _BATCH]
            images = [prepare(read_pixels(f))[0] for f in chunk]
            probabilities = population.as_probabilities(run(np.stack(images)))
            names = info.class_names or [*map(str, range(probabilities.shape[1]))]
            if len(names) != probabilities.shape[1]:
                raise InvalidValue(
                    f"{model} has {probabilities.shape[1]} classes, and {info.name} "
                    f"{len(names)}. Choose the data set that it was trained on."
                )
            # Stable: of equally probable classes, the first comes first.
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            for file, row, top_k in zip(chunk, probabilities, order, strict=True):
                best = [
                    {"label": names[k], "probability": float(row[k])} for k in top_k
                ]
                result.append({"file": str(file), "predictions": best})
            advance(len(chunk))
    _console.show(result, json_path, _table(f"Predictions of {model}", result))


def _as_the_file(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the outputs of a network, in float32 even after mixed precision."""
    if any(layer.compute_dtype in ("bfloat16", "float16") for layer in model.layers):
        with contextlib.suppress(deploy.ConversionError):
            model = deploy.prepared(model, allow_float=True)
    return model.predict_on_batch


def _table(title: str, result: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("image", overflow="fold")
    for place in range(max(len(row["predictions"]) for row in result)):
        table.add_column("class" if place == 0 else f"{place + 1}.", overflow="fold")
    for row in result:
        # A name may contain bytes that are not text.
        name = row["file"].encode(errors="replace").decode()
        best = row["predictions"]
        cells = (f"{p['label']} {_console.percent(p['probability'])}" for p in best)
        table.add_row(name, *cells)
    return table


def image_files(places: Sequence[Path]) -> list[Path]:
    """Returns the given files, and all images in the given folders.

    In folders, also in deeper ones, the files with the suffix of an image count, sorted
    and without hidden ones.
    """
    files: list[Path] = []
    for place in places:
        inside = [place]
        if place.is_dir():
            below = files_below(place, lambda name: name[0] != ".", links=False)
            inside = sorted(f for f in below if f.suffix.lower() in IMAGE_SUFFIXES)
        if not inside:
            raise FileNotFoundError(
                f"{place} contains no image. Images are files that end in "
                f"{', '.join(IMAGE_SUFFIXES)}."
            )
        files += inside
    return files


def read_pixels(file: Path) -> np.ndarray:
    content = file.read_bytes()
    try:
        return data.decode(content)
    except ValueError as error:
        raise InvalidValue(
            f"{file} cannot be read as an image: {error}. Leave it out, or save it "
            "again."
        ) from error
