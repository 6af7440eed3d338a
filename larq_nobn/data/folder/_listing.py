"""What lies in a folder of images: splits, classes, files."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..._errors import InvalidValue
from ..._files import files_below
from ..._names import IMAGE_SUFFIXES, split_named

# What systems leave in folders of images.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Entry:
    """A file that should be an image.

    Its path is relative to the folder, its label the name of the folder of its class,
    its split None where its content will decide. Size and time of change, in
    nanoseconds, are -1 and 0 where nobody can tell.
    """

    path: str
    label: str
    split: str | None
    size: int
    changed: int


@dataclass(frozen=True)
class Listing:
    """A folder, read without opening a file of it.

    Entries are sorted by file name, so that neither classes nor splits come one after
    the other. `divided` tells whether there are folders for training and testing,
    `others` how many files of other kinds there are, by suffix.
    """

    root: Path
    entries: tuple[Entry, ...]
    divided: bool
    remarks: tuple[str, ...]
    empty: tuple[str, ...]
    others: dict[str, int] = field(compare=False)


def read_listing(root: Path) -> Listing:
    """Lists the images of a folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If it is a file.
        ValueError: If it has no folder with images in it, or some of which nothing
            tells whether they are splits or classes.
    """
    if not root.exists():
        raise FileNotFoundError(
            f"There is no folder {root}. Pass one that contains a folder of images for "
            "each class."
        )
    if not root.is_dir():
        raise NotADirectoryError(
            f"{root} is a file. Pass a folder that contains a folder of images for "
            "each class."
        )
    parts, remarks = _parts(root)
    entries: list[Entry] = []
    empty: list[str] = []
    others: Counter[str] = Counter()
    for split, folder in parts.items():
        _check_classes(folder)
        for place in _folders(folder):
            label = unicodedata.normalize("NFC", place.name)
            before = len(entries)
            for file in files_below(place, _counts):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    entries.append(_entry(root, file, label, split))
                else:
                    others[file.suffix.lower() or file.name] += 1
            if len(entries) == before:
                empty.append(str(place.relative_to(root)))
    if not entries:
        raise InvalidValue(
            f"{root} contains no folder with images in it. Put those of each class "
            "into a folder of its name, as in cats/1.jpg, or these into train and test."
        )
    entries.sort(key=lambda e: (os.path.basename(e.path), e.label, e.path))
    divided = None not in parts
    only = [p for p in _folders(root) if _has_images(p)]
    if not divided and len(only) == 1 and len(inside := _folders(only[0])) > 1:
        remarks += (
            f"{only[0].name} is the only class; if {_names(inside)} in it are "
            f"the classes, choose {only[0]}",
        )
    return Listing(root, tuple(entries), divided, remarks, tuple(empty), dict(others))


def _parts(root: Path) -> tuple[dict[str | None, Path], tuple[str, ...]]:
    """Where the classes are, by split, or by None where nothing says which; remarks."""
    named = [place for place in _folders(root) if split_named(place.name)]
    splits = [place for place in named if _folders(place)]
    if not splits:
        return {None: root}, ()
    if beside := [p for p in _folders(root) if p not in named and _has_images(p)]:
        raise InvalidValue(
            f"{root} contains {_names(splits)} with folders of classes in them, as "
            f"splits have, beside images in {_names(beside)}. Move these into the "
            "splits, as in train/cats/1.jpg, or elsewhere; rename a class that is "
            "called like a split."
        )
    parts: dict[str | None, Path] = {}
    for place in splits:
        split = split_named(place.name)
        if split in parts:
            raise InvalidValue(
                f"{root} contains both {parts[split].name} and {place.name}, which are "
                f"names of the {split} split. Keep one of them."
            )
        parts[split] = place
    unused = [p for p in named if p not in splits and _has_images(p)]
    remarks = [f"{p.name} is not used: it has no folders of classes" for p in unused]
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        remarks.append(f"{parts['test'].name} is used as the test split")
    if "test" not in parts:
        parts = {None: parts["train"]}
    return parts, tuple(remarks)


def _check_classes(folder: Path) -> None:
    """Rejects splits in the place of classes."""
    places = [p for p in _folders(folder) if _has_images(p)]
    # Beside others, "train" may be a class: of images of trains.
    classes = [p for p in places if not split_named(p.name)]
    doubtful = [p for p in places if p not in classes]
    if classes and [p.name.casefold() for p in doubtful] == ["train"]:
        doubtful = []
    if doubtful:
        raise InvalidValue(
            f"{folder} contains images in {_names(doubtful)}, named like a split and "
            "not like a class. Put a folder for each class into a split, as in "
            "train/cats/1.jpg, and rename a class that is called like a split."
        )
    for place in classes:
        inside = [p for p in _folders(place) if split_named(p.name)]
        kinds = {split_named(p.name) for p in inside}
        if "train" in kinds and len(kinds) > 1:
            raise InvalidValue(
                f"{place} contains {_names(inside)}, which are names of splits. Choose "
                "this folder as the data set, or, if it is a class, put the splits "
                f"above it, as in train/{place.name}/1.jpg."
            )


def _names(folders: list[Path]) -> str:
    return first_few([place.name for place in folders])


def first_few(names: Sequence[str]) -> str:
    """Up to five names, and how many more there are."""
    more = [f"and {len(names) - 5} more"] if len(names) > 5 else []
    return ", ".join([*names[:5], *more])


def _has_images(place: Path) -> bool:
    return any(
        file.suffix.lower() in IMAGE_SUFFIXES for file in files_below(place, _counts)
    )


def _folders(place: Path) -> list[Path]:
    inside = (place / name for name in sorted(os.listdir(place)) if _counts(name))
    return [path for path in inside if path.is_dir()]


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in _LITTER


def _entry(root: Path, file: Path, label: str, split: str | None) -> Entry:
    path = file.relative_to(root).as_posix()
    try:
        state = file.stat()
    except OSError:  # a link to nothing: reading it will say so
        return Entry(path, label, split, -1, 0)
    return Entry(path, label, split, state.st_size, state.st_mtime_ns)
