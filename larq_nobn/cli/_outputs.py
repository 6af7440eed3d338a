"""Where a command may write: the one place that decides it.

An output that exists needs `--force`; one that is an input, or another output, is an
error.
"""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from .._errors import InvalidValue
from .._figures import check_plot, new_figure
from .._names import IMAGE_SUFFIXES
from ..config._run_files import LOCK, OURS

TFLITE, KERAS, PNG, JSON = ".tflite", ".keras", ".png", ".json"
_MODELS = {KERAS: "Keras", TFLITE: "TFLite"}
# Parameters whose value is a folder of images, if it is a folder; and those that may
# name a file or a folder, and need not.
_OF_IMAGES = ("dataset", "name")
_MAY_BE_READ = ("init", "teacher", *_OF_IMAGES)


class Output(click.Path):
    """A file that a command writes; `-` is standard output for JSON.

    Arguments:
        suffix: What the file is; the name of a model or an image has to end so.
        plots: Whether it is drawn by matplotlib, which is an extra.
    """

    name = "file"

    def __init__(self, suffix: str, plots: bool = False) -> None:
        super().__init__(path_type=str if suffix == JSON else Path)
        self.suffix, self.plots = suffix, plots


def plot_option(help: str, name: str = "--plot", plots: bool = True) -> Any:
    """An option for an image that a command draws."""
    return click.option(name, metavar="FILE.png", type=Output(PNG, plots), help=help)


json_option = click.option(
    "--json",
    "report",
    type=Output(JSON),
    help="Write the result as JSON to this file; - prints it.",
)


def check_outputs(ctx: click.Context, force: bool) -> None:
    """Rejects a command line by which something would be destroyed.

    Raises:
        OSError: If an output is an input, exists, or lies in no folder.
        ValueError: If two outputs are one file, or a name has a wrong ending.
    """
    inputs: list[tuple[Path, bool]] = []  # each with whether it is of images
    outputs: list[tuple[str, Path, Output]] = []
    folders: list[tuple[str, Path]] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        kind, of_images = parameter.type, parameter.name in _OF_IMAGES
        if value is None or value == "-":
            continue
        if isinstance(kind, Output):
            is_option = isinstance(parameter, click.Option)
            name = parameter.opts[0] if is_option else "Output"
            outputs.append((name, Path(value), kind))
            if kind.suffix == TFLITE:
                outputs.append(("The metadata", Path(f"{value}.json"), Output(JSON)))
        elif parameter.name == "output":
            folders.append(("--output", value))
        elif isinstance(kind, click.Path) or parameter.name in _MAY_BE_READ:
            for path in map(Path, value if isinstance(value, tuple) else [value]):
                inputs.append((path, of_images))
                if path.suffix == TFLITE:
                    inputs.append((Path(f"{path}.json"), False))
    for name, path, kind in outputs:
        if any(_is_input(path, *read) for read in inputs):
            raise FileExistsError(
                f"{name} {path} would overwrite what the command reads, or lie among "
                "its images. Choose another name."
            )
        _check_place(f"{name} {path}", path, force)
        if kind.suffix == PNG:
            check_plot(path)
        if kind.plots:
            new_figure(path, (1, 1))
        what = _MODELS.get(kind.suffix)
        # Keras takes its own in small letters only.
        ending = path.suffix.lower() if kind.suffix == TFLITE else path.suffix
        if what and ending != kind.suffix:
            raise InvalidValue(
                f"{name} {path} is not a name for a {what} model. Choose one that ends "
                f"in {kind.suffix}."
            )
    written = [*folders, *((name, path) for name, path, _ in outputs)]
    for (one, first), (other, second) in combinations(written, 2):
        if _same(first, second):
            raise InvalidValue(
                f"{one} {first} and {other} {second} are one file. Choose another name "
                "for one of them."
            )


def _check_place(said: str, path: Path, force: bool) -> None:
    if not path.absolute().parent.is_dir():
        raise NotADirectoryError(
            f"{said} lies in no existing folder. Create it first, or choose another "
            "one."
        )
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{said} is not a regular file. Choose another name.")
    if os.path.lexists(path) and not force:
        raise FileExistsError(
            f"{said} exists already. Choose another name, or overwrite it with --force."
        )


def _same(one: Path, other: Path) -> bool:
    """Whether two names are of one file, through links, and also if it is not there."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _is_input(path: Path, read: Path, of_images: bool) -> bool:
    """Whether a file is what is read, or a part of the folder that is.

    The files of a run are its parts; among images every image is, a new one too.
    """
    place, folder = Path(os.path.realpath(path)), Path(os.path.realpath(read))
    if _same(path, read) or folder not in place.parents:
        return _same(path, read)
    if of_images:
        return path.suffix.lower() in IMAGE_SUFFIXES
    return place.relative_to(folder).parts[0] in {*OURS, LOCK}
