"""A data set by its name: built in, a folder, of TFDS, or handed over."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._checks import check_bounds, check_flag, check_number, check_path
from ._any_tfds import PREFIX, AnyTfds, open_tfds
from ._arrays import resized
from ._registry import NAMES, DatasetInfo, built_in
from ._source import Source, validation_numbers
from ._tfds import DataDir
from .folder import Folder, open_folder
from .given import GIVEN, Given, Streams, given

Size = int | tuple[int, int] | None


@dataclass(frozen=True)
class BuiltIn:
    """One of `NAMES` but ImageNet, in memory."""

    name: str
    data_dir: str | None
    validation: float

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the registry."""
        return built_in(self.name).class_names

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What the registry says."""
        found = built_in(self.name)
        if self.validation:
            parts = validation_numbers(found.train_examples, self.validation)
            train, held = map(len, parts)
            found = replace(found, train_examples=train, validation_examples=held)
        if size is None:
            return found
        return replace(found, image_shape=(*size, found.image_shape[2]))

    def source(
        self, split: str, shape: tuple[int, int, int], crop: float = 1.0
    ) -> Source:
        """The images, which a process reads once."""
        return resized(self.name, split, self.data_dir, shape, crop, self.validation)


class ImageNet(BuiltIn):
    """The same for ImageNet, which is too large for memory."""

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What the registry says, of its one size."""
        found = super().info()
        if size not in (None, found.image_shape[:2]):
            raise ValueError(
                f"image_size={size} does not apply to imagenet, whose images are "
                "224x224. Leave it out, or name tfds:imagenet2012, which comes in any "
                "size."
            )
        return found


# What says its `class_names` and `info`, and gives the `source` of a split.
Dataset = BuiltIn | AnyTfds | Folder | Given


def check_name(argument: str, name: object) -> str:
    """Returns the name of a data set; that of a folder is its absolute path.

    Arguments:
        argument: What the message calls it.
        name: What was given.

    Raises:
        TypeError: If it is neither a text nor a path.
        ValueError: If it is the name of nothing.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(
            f"{argument}={name!r} is neither a name nor a path. {_what_there_is()}"
        )
    if name in (*NAMES, GIVEN) or (isinstance(name, str) and name.startswith(PREFIX)):
        return str(name)
    path = Path(check_path(argument, name)).expanduser()
    # A word could be a name that is spelled wrongly; what has a slash is a path.
    if path.is_dir() or isinstance(name, os.PathLike) or {*name} & {"/", os.sep}:
        return os.path.abspath(path)
    raise ValueError(f"{argument}={name!r} is not known. {_what_there_is()}")


def _what_there_is() -> str:
    return (
        f"Choose from {', '.join(NAMES)}, or give a folder of pictures, or "
        f"{PREFIX}NAME for a set of TensorFlow Datasets."
    )


def check_size(size: object) -> tuple[int, int] | None:
    """Returns (height, width) of a number or a pair."""
    if size is None:
        return None
    if isinstance(size, (tuple, list)):
        if len(size) != 2:
            raise ValueError(
                f"image_size={size!r} is no pair. Give height and width, or one number."
            )
        height, width = (int(check_bounds("image_size", each)) for each in size)
        return height, width
    side = int(check_bounds("image_size", size))
    return side, side


def open_dataset(
    name: str | os.PathLike[str],
    holdout: float = 0.1,
    skip_unreadable: bool = False,
    data_dir: DataDir = None,
    validation: float = 0.0,
) -> Dataset | Streams:
    """Returns a data set, of which as little is read as can be."""
    chosen = check_name("name", name)
    check_number("holdout", holdout, "[0, 1]", "0.1 keeps every tenth for testing.")
    check_flag("skip_unreadable", skip_unreadable)
    check_number("validation", validation, "[0, 1)", "0.1 holds out every tenth.")
    place = None if data_dir is None else check_path("data_dir", data_dir)
    if chosen == "imagenet":
        return ImageNet(chosen, place, validation)
    if chosen in NAMES:
        return BuiltIn(chosen, place, validation)
    if chosen == GIVEN:
        return given().with_validation(validation)
    if chosen.startswith(PREFIX):
        return open_tfds(chosen, holdout, place, validation)
    return open_folder(Path(chosen), holdout, skip_unreadable, validation)


def content_of(name: str, *, image_size: Size = None, **which: Any) -> str | None:
    """A digest of the pictures of a folder; None of a data set that does not change.

    Arguments:
        name: As in `describe`, and so are the others.
        image_size: Of no consequence here.
        **which: What says which pictures are meant.
    """
    found = open_dataset(name, **which)
    return found.content if isinstance(found, Folder) else None


def describe(
    name: str | os.PathLike[str],
    *,
    image_size: Size = None,
    holdout: float = 0.1,
    skip_unreadable: bool = False,
    data_dir: DataDir = None,
    validation: float = 0.0,
) -> DatasetInfo:
    """Returns what is known about a data set, downloading nothing.

    Of a folder every file is opened, once; what is found is kept in the user's cache
    folder.

    Arguments:
        name: One of `NAMES`, a folder of pictures, or `"tfds:NAME"`, as `load` takes
            it.
        image_size: As in `load`.
        holdout: As in `load`.
        skip_unreadable: As in `load`.
        data_dir: As in `load`.
        validation: As in `load`.

    Returns:
        A `DatasetInfo`.

    Raises:
        TypeError, ValueError: As `load` does; for an unknown name, with the known ones.
        FileNotFoundError: If there is no such folder, or the set is not prepared.

    Example:
        >>> nobn.data.describe("cifar10").image_shape
        (32, 32, 3)
    """
    opened = open_dataset(name, holdout, skip_unreadable, data_dir, validation)
    return opened.info(check_size(image_size))
