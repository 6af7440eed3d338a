"""The pictures that a command is given, by files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..._files import read_file
from ..._names import IMAGE_SUFFIXES
from .._package import data


def image_files(places: Sequence[Path]) -> list[Path]:
    """Returns the files, and the pictures in the folders, however deep.

    Arguments:
        places: Files of any name, which are taken as they are given; of folders those
            whose suffix is that of a picture, sorted, and none that is hidden.

    Raises:
        FileNotFoundError: If a place is not there, or a folder holds no picture.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise FileNotFoundError(
                f"{place} does not exist. Give pictures, or folders that hold some."
            )
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(_inside(place))
        if not inside:
            raise FileNotFoundError(
                f"{place} holds no picture. Those are files that end in "
                f"{', '.join(IMAGE_SUFFIXES)}."
            )
        found += inside
    return found


def read_pixels(file: Path, channels: int) -> np.ndarray:
    """Returns what a file shows, (height, width, channels), as bytes.

    Arguments:
        file: The file.
        channels: Those of a network; grey becomes three alike where it wants colours.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no picture, or is damaged.
    """
    content = read_file(file)
    try:
        pixels = data.decode(content)
    except ValueError as error:
        raise ValueError(
            f"{file} cannot be shown to a network: {error}. Leave it out, or save it "
            "again."
        ) from error
    return np.repeat(pixels, 3, -1) if pixels.shape[-1] < channels else pixels


def _inside(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(place, name)
