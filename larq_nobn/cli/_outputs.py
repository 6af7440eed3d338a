"""Where a command may write: the one place that decides it.

An output that exists needs `--force`; one that is an input is an error.
"""

from __future__ import annotations

import os
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

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the path, if its name and what is installed suit it."""
        path: Any = super().convert(value, param, ctx)
        if self.suffix == PNG:
            check_plot(path)
        if self.plots:
            new_figure(path, (1, 1))
        # Keras takes its own in small letters only.
        ending = path.suffix.lower() if self.suffix == TFLITE else Path(path).suffix
        if self.suffix in _MODELS and ending != self.suffix:
            raise InvalidValue(
                f"{path} is not a name for a {_MODELS[self.suffix]} model. Choose one "
                f"that ends in {self.suffix}."
            )
        return path


def plot_option(help: str, name: str = "--plot", plots: bool = True) -> Any:
    return click.option(name, metavar="FILE.png", type=Output(PNG, plots), help=help)


json_option = click.option(
    "--json",
    "report",
    type=Output(JSON),
    help="Write the result as JSON to this file; - prints it.",
)


def check_outputs(ctx: click.Context, force: bool) -> None:
    """Raises an OSError if an output is an input, exists, or lies in no folder."""
    inputs: list[tuple[Path, bool]] = []  # each with whether it is of images
    outputs: list[tuple[str, Path]] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        kind, of_images = parameter.type, parameter.name in _OF_IMAGES
        if value is None or value == "-":
            continue
        if isinstance(kind, Output):
            is_option = isinstance(parameter, click.Option)
            outputs.append((parameter.opts[0] if is_option else "Output", Path(value)))
            if kind.suffix == TFLITE:
                outputs.append(("The metadata", Path(f"{value}.json")))
        elif parameter.name == "output":
            pass  # a folder, which its run looks at
        elif isinstance(kind, click.Path) or parameter.name in _MAY_BE_READ:
            for path in map(Path, value if isinstance(value, tuple) else [value]):
                inputs += [(path, of_images), (Path(f"{path}.json"), False)]
    for name, path in outputs:
        said = f"{name} {path}"
        if any(_is_input(path, *read) for read in inputs):
            raise FileExistsError(
                f"{said} would overwrite what the command reads, or lie among its "
                "images. Choose another name."
            )
        if not path.absolute().parent.is_dir():
            raise NotADirectoryError(
                f"{said} lies in no existing folder. Create it first, or choose "
                "another one."
            )
        if path.exists() and not path.is_file():
            raise FileExistsError(f"{said} is not a regular file. Choose another name.")
        if os.path.lexists(path) and not force:
            raise FileExistsError(
                f"{said} exists already. Choose another name, or overwrite it with "
                "--force."
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
