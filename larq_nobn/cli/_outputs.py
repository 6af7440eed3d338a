"""Checks output paths: inputs are never overwritten, other files only by `--force`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .._errors import InvalidValue
from .._figures import new_figure
from .._names import IMAGE_SUFFIXES
from ..config._run_files import LOCK, OURS

TFLITE, C, KERAS, PNG, JSON = ".tflite", ".c", ".keras", ".png", ".json"
# Parameters whose value may be an image folder, and those whose value may be any file
# or folder.
_OF_IMAGES = ("dataset", "name")
_MAY_BE_READ = ("init", "teacher", *_OF_IMAGES)


class Output(click.Path):
    """A file that a command writes; a plot needs matplotlib, an extra."""

    name = "file"

    def __init__(self, suffix: str, plots: bool = False) -> None:
        super().__init__(path_type=str if suffix == JSON else Path)
        self.suffix, self.plots = suffix, plots

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        path: Any = super().convert(value, param, ctx)
        suffixes = [TFLITE, C] if self.suffix == TFLITE else [self.suffix]
        if self.suffix != JSON and Path(path).suffix not in suffixes:
            raise InvalidValue(
                f"{path} is not a valid name for this output. Choose one that ends in "
                f"{' or '.join(suffixes)}."
            )
        if self.plots:
            new_figure(path, (1, 1))
        return path


def plot_option(help: str, name: str = "--plot", plots: bool = True) -> Any:
    return click.option(name, metavar="FILE.png", type=Output(PNG, plots), help=help)


json_option = click.option(
    "--json",
    "json_path",
    type=Output(JSON),
    help="Write the result as JSON to this file; - prints it.",
)


def check_outputs(ctx: click.Context, force: bool) -> None:
    """Raises an OSError if an output is an input or exists, or its folder does not."""
    inputs: list[tuple[Path, bool]] = []  # each with True for an image folder
    outputs: list[tuple[str, Path]] = []
    for parameter in ctx.command.params:
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        if isinstance(parameter.type, Output):
            if value not in (None, "-"):
                option = parameter.opts[0] if name != "output" else "Output"
                outputs.append((option, Path(value)))
                if parameter.type.suffix == TFLITE:
                    outputs.append(("The metadata", Path(f"{value}.json")))
                if Path(value).suffix == C:
                    outputs.append(("The header", Path(value).with_suffix(".h")))
        elif name != "output":  # a run folder, which the training checks
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Path) or (name in _MAY_BE_READ and each):
                    inputs.append((Path(each), name in _OF_IMAGES))
                    inputs.append((Path(f"{each}.json"), False))
    for option, path in outputs:
        said = f"{option} {path}"
        if any(_is_input(path, *read) for read in inputs):
            raise FileExistsError(
                f"{said} would overwrite a file that the command reads, or be one of "
                "its images. Choose another name."
            )
        if not path.absolute().parent.is_dir():
            raise NotADirectoryError(
                f"{said} is in a folder that does not exist. Create it first, or "
                "choose another one."
            )
        if path.exists() and not path.is_file():
            raise FileExistsError(f"{said} is not a regular file. Choose another name.")
        if os.path.lexists(path) and not force:
            raise FileExistsError(
                f"{said} exists already. Choose another name, or overwrite it with "
                "--force."
            )


def _is_input(path: Path, read: Path, of_images: bool) -> bool:
    """Returns whether an output is an input, also via links, or inside of one.

    Inside a run folder, files of the run count; inside an image folder, all images.
    """
    place, folder = Path(os.path.realpath(path)), Path(os.path.realpath(read))
    same = path.exists() and read.exists() and path.samefile(read)
    if same or place == folder or folder not in place.parents:
        return same or place == folder
    if of_images:
        return path.suffix.lower() in IMAGE_SUFFIXES
    return place.relative_to(folder).parts[0] in {*OURS, LOCK}
