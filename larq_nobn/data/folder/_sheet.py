"""A sheet with some pictures of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._files import replacing
from ._image import image_of

_TILE = 72
_GAP = 4
_LINE = 18
# With more classes a row for each would be too high for a picture.
_ROWS = 40
_ACROSS = 10


def draw_sheet(target: Path, pictures: Mapping[str, Sequence[Path]]) -> None:
    """Draws a row of up to ten pictures for each class; of many classes one of each.

    Raises:
        ValueError: If the name of the file does not end in `.png`.
        OSError: If it cannot be written.
    """
    if target.suffix.lower() != ".png":
        raise ValueError(
            f"{target} is no name for a sheet. Choose one that ends in .png."
        )
    if len(pictures) <= _ROWS:
        cells = [
            (row, column, file)
            for row, files in enumerate(pictures.values())
            for column, file in enumerate(files[:_ACROSS])
        ]
        words = [(row, 0, name) for row, name in enumerate(pictures)]
        rows = len(pictures)
    else:
        places = [(n // _ACROSS, n % _ACROSS) for n in range(len(pictures))]
        named = list(zip(places, pictures.items(), strict=True))
        cells = [(*place, file) for place, (_, files) in named for file in files[:1]]
        words = [(*place, name[:11]) for place, (name, _) in named]
        rows = places[-1][0] + 1
    with replacing(target) as temporary:
        _drawn(cells, words, rows).save(temporary)


def _drawn(cells: list, words: list, rows: int) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    high, wide = _TILE + _LINE + _GAP, _TILE + _GAP
    sheet = Image.new("RGB", (_ACROSS * wide + _GAP, rows * high + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row, column, file in cells:
        pixels = image_of(file.read_bytes(), (_TILE, _TILE, 3), exact=False)
        place = (_GAP + column * wide, _GAP + row * high + _LINE)
        sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), place)
    for row, column, text in words:
        pen.text((_GAP + column * wide, _GAP + row * high), text, "black", font)
    return sheet
