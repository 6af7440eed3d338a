"""`inspect_folder`: the contents of an image folder, before a training."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..._checks import check_number, check_path
from ..._figures import check_plot, font_of, legible
from ..._files import replacing
from ._decode import image_of
from ._folder import HOLDOUT, ScannedImage, divided, read_listing, scan, shown

# Pixels of an image, of the gap between two, and of a line of text; columns.
_TILE, _GAP, _LINE, _ACROSS = 72, 4, 18, 10


@dataclass(frozen=True)
class Overview:
    """The contents of an image folder, as `inspect_folder` found them.

    Attributes:
        root: The folder.
        divided: Whether folders divide it into splits; else contents of files do.
        classes: Number of images of each class, by split.
        sizes: Smallest, median and largest height, and likewise width; None without a
            readable image.
        grey: Number of gray images.
        unreadable: Files that cannot be read, with the reason.
        empty: Class folders without an image.
        copies: Groups of equal files within one split and class, by their paths.
        leaks: Groups of equal files in several splits.
        twins: Groups of equal files in several classes.
        others: Number of other files, by suffix.
        remarks: Split folders that are used as another split, or not used.
    """

    root: Path
    divided: bool
    classes: dict[str, dict[str, int]]
    sizes: tuple[tuple[int, int, int], tuple[int, int, int]] | None
    grey: int
    unreadable: dict[str, str]
    empty: tuple[str, ...]
    copies: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]
    twins: tuple[tuple[str, ...], ...]
    others: dict[str, int]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns all attributes as plain JSON types."""
        content = {"path": str(self.root), **asdict(self)}
        del content["root"]
        content["heights"], content["widths"] = content.pop("sizes") or (None, None)
        return json.loads(json.dumps(content, default=str))

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Plots the first ten images of each class, one row per class.

        Arguments:
            path: A name that ends in `.png`; an existing file is replaced.

        Raises:
            ValueError: If the name has another suffix.
            OSError: If the file cannot be written.
        """
        from PIL import Image, ImageDraw

        target = check_plot(path)
        rows: dict[str, list[Path]] = {name: [] for name in self.classes}
        for entry in read_listing(self.root).entries:
            if entry.label in rows and shown(entry.path) not in self.unreadable:
                rows[entry.label].append(self.root / entry.path)
        high, wide = _TILE + _LINE + _GAP, _TILE + _GAP
        size = _ACROSS * wide + _GAP, len(rows) * high + _GAP
        sheet = Image.new("RGB", size, "white")
        pen, font = ImageDraw.Draw(sheet), font_of(12)
        for row, (name, files) in enumerate(rows.items()):
            top = _GAP + row * high
            pen.text((_GAP, top), legible(name), "black", font)
            for column, file in enumerate(files[:_ACROSS]):
                tile = Image.fromarray(image_of(file, (_TILE, _TILE, 3), False).copy())
                sheet.paste(tile, (_GAP + column * wide, top + _LINE))
        with replacing(target) as temporary:
            sheet.save(temporary)


def inspect_folder(path: str | os.PathLike[str], *, holdout: float = 0.1) -> Overview:
    """Inspects an image folder: opens every file once and returns an `Overview`.

    Results are cached in the user's cache folder, so that files are not opened again by
    this function or a training until one changes. The folder itself is not changed.

    Arguments:
        path: An image folder, as for `load`.
        holdout: As in `load`.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it contains no folder with images.

    Example:
        ```python
        overview = nobn.data.inspect_folder("pictures")
        print(overview.unreadable)
        overview.draw("classes.png")
        ```
    """
    check_number("holdout", holdout, *HOLDOUT)
    root = os.path.expanduser(check_path("path", path))
    listing = read_listing(Path(os.path.abspath(root)))
    images = scan(listing)
    good = [image for image in images if image.problem is None]
    by_split = divided(good, holdout)
    if not by_split["validation"]:
        del by_split["validation"]
    by_content: dict[str, list[ScannedImage]] = {}
    for image in good:
        by_content.setdefault(image.digest, []).append(image)
    names = sorted({image.entry.label for image in images})
    counts = {s: Counter(p.entry.label for p in own) for s, own in by_split.items()}
    split_of = {p.entry.path: split for split, own in by_split.items() for p in own}
    groups = [group for group in by_content.values() if len(group) > 1]
    leaks = [g for g in groups if len({split_of[p.entry.path] for p in g}) > 1]
    twins = [g for g in groups if len({p.entry.label for p in g}) > 1]
    sides: Any = zip(*((p.height, p.width) for p in good), strict=True)
    sizes: Any = tuple((min(s), int(median(s)), max(s)) for s in sides)
    return Overview(
        root=listing.root,
        divided=listing.divided,
        classes={name: {s: counts[s][name] for s in by_split} for name in names},
        sizes=sizes or None,
        grey=sum(image.gray for image in good),
        unreadable={shown(p.entry.path): p.problem for p in images if p.problem},
        empty=listing.empty,
        copies=_paths(g for g in groups if g not in leaks and g not in twins),
        leaks=_paths(leaks),
        twins=_paths(twins),
        others=listing.others,
        remarks=listing.remarks,
    )


def _paths(groups: Iterable[list[ScannedImage]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(shown(image.entry.path) for image in group) for group in groups)
