"""Where a command may write: the one place that decides it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from .._errors import InvalidValue
from .._figures import check_plot, new_figure
from .._files import opened
from .._names import IMAGE_SUFFIXES, METADATA_FORMAT
from .._run_files import run_that_owns

# Of a larger file so much of its start, and of its end, tells what it is.
_PART = 1 << 23


@dataclass(frozen=True)
class Kind:
    """What a file is: its name with an article, and what tells it by its content.

    A suffix is what its name has to end in, if that is so.
    """

    name: str
    matches: Callable[[bytes], bool]
    suffix: str = ""

    def is_of(self, file: Path) -> bool:
        """Whether a file is of this kind, whatever its size."""
        with opened(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size <= 2 * _PART:
                return self.matches(stream.readall())
            start = stream.read(_PART)
            stream.seek(size - _PART)
            return self.matches(start + stream.read(_PART))


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _is_archive(name: bytes, content: bytes) -> bool:
    """Whether it is a ZIP archive in which a file's name ends so."""
    return content.startswith(b"PK\3\4") and name in content


def _is_metadata(content: bytes) -> bool:
    found = _json(content)
    return isinstance(found, dict) and found.get("format") == METADATA_FORMAT


def _is_large_json(content: bytes) -> bool:
    """Whether it is from a file too large to be read, and JSON by its brackets."""
    brackets = content[:1] + content.rstrip()[-1:]
    return len(content) == 2 * _PART and brackets in (b"{}", b"[]")


def _is_report(content: bytes) -> bool:
    found = _json(content)
    is_json = isinstance(found, dict | list) or _is_large_json(content)
    return is_json and not _is_metadata(content)


def _is_comparison(content: bytes) -> bool:
    found = _json(content)
    its = isinstance(found, dict) and {"by", "groups", "runs"} <= found.keys()
    return its or _is_large_json(content)


TFLITE = Kind("a TFLite file", lambda content: content[4:8] == b"TFL3")
KERAS = Kind("a Keras model", partial(_is_archive, b"config.json"), ".keras")
PNG = Kind("a PNG image", lambda content: content.startswith(b"\x89PNG"))
PLOT = replace(PNG)  # by matplotlib, which is an extra
REPORT = Kind("a JSON report", _is_report)
COMPARISON = Kind("the JSON of a comparison", _is_comparison)
METADATA = Kind("the metadata of a TFLite file", _is_metadata)
# What may name a file or a folder, and need not.
_OF_IMAGES = ("dataset", "name")
_MAY_BE_READ = ("init", "teacher", *_OF_IMAGES)


class Output(click.Path):
    """A file that a command writes.

    `-` is standard output, where the command takes that.
    """

    def __init__(self, kind: Kind) -> None:
        super().__init__(path_type=str if kind is REPORT else Path)
        self.name = "file"
        self.kind = kind


def plot_option(help: str, name: str = "--plot", kind: Kind = PLOT) -> Any:
    """An option for an image that a command draws."""
    return click.option(name, metavar="FILE.png", type=Output(kind), help=help)


json_option = click.option(
    "--json",
    "report",
    type=Output(REPORT),
    help="Write the result as JSON to this file; - prints it.",
)


def check_outputs(ctx: click.Context, force: bool) -> None:
    """Rejects a command line by which something would be destroyed.

    Nothing is written onto a file that the command reads, by whatever name, nor onto
    another output, a file that a run made, a part of a prepared data set, or a file of
    another kind; and onto one of the same kind only by force.
    """
    targets = list(_targets(ctx))
    for (one, its, _), (other, path, _) in combinations(targets, 2):
        if _same(its, path):
            raise click.UsageError(
                f"{one} {its} and {other} {path} are one file. Choose another name "
                "for one of them.",
                ctx,
            )
    reads = list(_reads(ctx))
    for name, path, kind in targets:
        for read, of_images in reads:
            if _same(path, read) or _is_image_of(path, read):
                raise FileExistsError(
                    f"{name} {path} would overwrite what the command reads. Choose "
                    "another name."
                )
            if of_images and kind in (PNG, PLOT) and _is_below(path.parent, read):
                raise FileExistsError(
                    f"{name} {path} lies within the images of {read}, and would be "
                    "taken for one of them. Choose another folder."
                )
        check_target(f"{name} {path}", path, kind, force)
        if not path.name.endswith(kind.suffix):
            raise InvalidValue(
                f"{name} {path} is not a name for {kind.name}. Choose one that ends in "
                f"{kind.suffix}."
            )
        if kind in (PNG, PLOT):
            check_plot(path)
        if kind is PLOT:
            new_figure(path, (1, 1))


def check_target(
    said: str, path: Path, kind: Kind, force: bool, given: str = ""
) -> None:
    """Raises instead of writing a file where something else is.

    `said` is what a message calls it, and
    `given` the option that its folder is from, where its name is not a choice.
    """
    advice = "Choose another name."
    a_file = "Give the name of a file."
    if given:
        advice = a_file = f"Choose another {given}, or move it elsewhere."
    if (owner := run_that_owns(path)) is not None:
        raise FileExistsError(
            f"{said} belongs to the training run in {owner}, whose files only "
            f"train writes. {advice}"
        )
    if Path(path.absolute().parent, "dataset_info.json").is_file():
        raise FileExistsError(f"{said} lies within a prepared data set. {advice}")
    if not path.absolute().parent.is_dir():
        raise NotADirectoryError(
            f"{said} lies in no existing folder. Create it first, or choose another "
            "one."
        )
    if not path.exists():
        if os.path.islink(os.path.realpath(path)):
            raise FileExistsError(f"{said} is a link that leads to itself. {advice}")
        return
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{said} is a folder. {a_file}")
    if not stat.S_ISREG(mode):
        raise FileExistsError(f"{said} is not a regular file. {advice}")
    if path.stat().st_size == 0:
        return
    if not kind.is_of(path):
        raise FileExistsError(
            f"{said} exists and is not {kind.name}, so it is not overwritten. {advice}"
        )
    if not force:
        raise FileExistsError(
            f"{said} exists already. Choose another name, or overwrite it with --force."
        )


def _targets(ctx: click.Context) -> Iterator[tuple[str, Path, Kind]]:
    """What is written: name, file and kind of each, metadata included."""
    for parameter, value in _given(ctx):
        if not isinstance(parameter.type, Output) or value == "-":
            continue
        name = parameter.opts[0] if isinstance(parameter, click.Option) else "Output"
        yield name, Path(value), parameter.type.kind
        if parameter.type.kind is TFLITE:
            yield "The metadata", Path(f"{value}.json"), METADATA


def _reads(ctx: click.Context) -> Iterator[tuple[Path, bool]]:
    """Files and folders that are read, and metadata beside a file.

    Of each whether it is a data set, with folders of images.
    """
    for parameter, value in _given(ctx):
        if isinstance(parameter.type, Output) or parameter.name == "output":
            continue
        readable = isinstance(parameter.type, click.Path)
        if readable or parameter.name in _MAY_BE_READ:
            several = isinstance(value, tuple | list)
            for each in map(Path, value if several else [value]):
                yield each, parameter.name in _OF_IMAGES
                metadata = Path(f"{each}.json")
                with suppress(OSError):  # such as a name that is too long
                    if METADATA.is_of(metadata):
                        yield metadata, False


def _given(ctx: click.Context) -> Iterator[tuple[click.Parameter, Any]]:
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if value is not None:
            yield parameter, value


def _same(one: Path, other: Path) -> bool:
    """Whether two names are of one file, through links, and also if it is not there."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _is_image_of(path: Path, folder: Path) -> bool:
    """Whether a file is one of the images in a folder."""
    is_image = path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
    return is_image and _is_below(path, folder)


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents
