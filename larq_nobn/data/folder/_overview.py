"""What a folder of images contains, before anything is trained on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..._checks import check_number, check_path
from ..._errors import InvalidValue
from ..._files import replacing
from ..._progress import watched
from ._decode import image_of
from ._folder import Notes, ScannedImage, divided, scan, shown
from ._listing import read_listing

# Counted also where they are empty.
_BOTH = ("train", "test")


@dataclass(frozen=True)
class Overview:
    """The contents of an image folder, as `inspect_folder` found them.

    Attributes:
        root: The folder.
        divided: Whether it has folders for training and testing; else its content says.
        classes: Images of each class, by split.
        sizes: Smallest, median and largest height, and the same of widths; None
            without a readable image.
        formats: Images by format.
        grey: Images without colours.
        unreadable: Files that cannot be read, and why.
        empty: Folders of classes without an image.
        copies: Equal files, each group by their paths; all are in one split and class.
        leaks: Equal files in both splits.
        twins: Equal files in several classes.
        others: Files of other kinds, by suffix.
        remarks: Which folders of splits are used for another split, or not at all.
    """

    root: Path
    divided: bool
    classes: dict[str, dict[str, int]]
    sizes: tuple[tuple[int, int, int], tuple[int, int, int]] | None
    formats: dict[str, int]
    grey: int
    unreadable: dict[str, str]
    empty: tuple[str, ...]
    copies: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]
    twins: tuple[tuple[str, ...], ...]
    others: dict[str, int]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as plain JSON types."""
        return {
            "path": str(self.root),
            "divided": self.divided,
            "classes": self.classes,
            "heights": list(self.sizes[0]) if self.sizes else None,
            "widths": list(self.sizes[1]) if self.sizes else None,
            "formats": self.formats,
            "grey": self.grey,
            "unreadable": self.unreadable,
            "empty": list(self.empty),
            **{
                name: [list(group) for group in getattr(self, name)]
                for name in ("copies", "leaks", "twins")
            },
            "others": self.others,
            "remarks": list(self.remarks),
        }

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Plots some images of each class.

        Arguments:
            path: A name that ends in `.png`; an earlier file is replaced.

        Raises:
            ValueError: If the name ends otherwise.
            OSError: If the file cannot be written.
        """
        found: dict[str, list[Path]] = {name: [] for name in self.classes}
        for each in read_listing(self.root).entries:
            if each.label in found and shown(each.path) not in self.unreadable:
                found[each.label].append(self.root / each.path)
        draw_overview(Path(path), found)


def inspect_folder(
    path: str | os.PathLike[str],
    *,
    holdout: float = 0.1,
    progress: Callable[[int, int], object] | None = None,
) -> Overview:
    """Inspects an image folder: opens every file once and reports its contents.

    What is found in a file is kept in the user's cache folder, so that neither this nor
    a training opens it again before it changes; the folder itself stays as it is.

    Arguments:
        path: A folder as `load` takes it.
        holdout: As in `load`.
        progress: Told how many files of how many are known.

    Returns:
        An `Overview`.

    Raises:
        FileNotFoundError, NotADirectoryError: If there is no such folder.
        ValueError: If it contains no folder with images.

    Example:
        ```python
        found = nobn.data.inspect_folder("pictures")
        print(found.unreadable)
        found.draw("classes.png")
        ```
    """
    check_number("holdout", holdout, "[0, 1]", "0.1 keeps every tenth for testing.")
    listing = read_listing(
        Path(os.path.abspath(os.path.expanduser(check_path("path", path))))
    )
    with watched(lambda _, *done: progress(*done)) if progress else nullcontext():
        images = scan(listing, Notes(listing.root))
    good = [each for each in images if each.problem is None]
    parts = {
        s: part for s, part in divided(good, holdout).items() if part or s in _BOTH
    }
    by_content: dict[str, list[ScannedImage]] = {}
    for each in good:
        by_content.setdefault(each.digest, []).append(each)
    names = sorted({each.entry.label for each in images})
    counts = {s: Counter(p.entry.label for p in part) for s, part in parts.items()}
    side = {p.entry.path: split for split, part in parts.items() for p in part}
    groups = [group for group in by_content.values() if len(group) > 1]
    across = [g for g in groups if len({side[p.entry.path] for p in g}) > 1]
    twins = [g for g in groups if len({p.entry.label for p in g}) > 1]
    return Overview(
        root=listing.root,
        divided=listing.divided,
        classes={name: {s: counts[s][name] for s in parts} for name in names},
        sizes=_sizes(good),
        formats=dict(sorted(Counter(each.format for each in good).items())),
        grey=sum(each.grey for each in good),
        unreadable={shown(p.entry.path): p.problem for p in images if p.problem},
        empty=listing.empty,
        copies=_paths(g for g in groups if g not in across and g not in twins),
        leaks=_paths(across),
        twins=_paths(twins),
        others=listing.others,
        remarks=listing.remarks,
    )


def _paths(groups: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(shown(each.entry.path) for each in group) for group in groups)


def _sizes(images: list[ScannedImage]) -> Any:
    if not images:
        return None
    sides = ([p.height for p in images], [p.width for p in images])
    return tuple((min(side), int(median(side)), max(side)) for side in sides)


_TILE = 72
_GAP = 4
_LINE = 18
# With more classes a row for each would be too high for an image.
_ROWS = 40
_ACROSS = 10


def draw_overview(target: Path, images: Mapping[str, Sequence[Path]]) -> None:
    """Draws a row of up to ten images for each class; of many classes one of each."""
    if target.suffix.lower() != ".png":
        raise InvalidValue(
            f"{target} is not a name for a plot. Choose one that ends in "
            ".png, such as plot.png."
        )
    if len(images) <= _ROWS:
        cells = [
            (row, column, file)
            for row, files in enumerate(images.values())
            for column, file in enumerate(files[:_ACROSS])
        ]
        words = [(row, 0, name) for row, name in enumerate(images)]
        rows = len(images)
    else:
        places = [(n // _ACROSS, n % _ACROSS) for n in range(len(images))]
        named = list(zip(places, images.items(), strict=True))
        cells = [(*place, file) for place, (_, files) in named for file in files[:1]]
        words = [(*place, name[:11]) for place, (name, _) in named]
        rows = places[-1][0] + 1
    with replacing(target) as temporary:
        _drawn(cells, words, rows).save(temporary)


def _drawn(cells: list, words: list, rows: int) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    high, wide = _TILE + _LINE + _GAP, _TILE + _GAP
    plot = Image.new("RGB", (_ACROSS * wide + _GAP, rows * high + _GAP), "white")
    pen, font = ImageDraw.Draw(plot), ImageFont.load_default(12)
    for row, column, file in cells:
        pixels = image_of(file, (_TILE, _TILE, 3), exact=False)
        place = (_GAP + column * wide, _GAP + row * high + _LINE)
        plot.paste(Image.fromarray(np.ascontiguousarray(pixels)), place)
    for row, column, text in words:
        pen.text((_GAP + column * wide, _GAP + row * high), text, "black", font)
    return plot
