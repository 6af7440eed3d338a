"""What lies in a folder of images: splits, classes, files."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from dataclasses import dataclass
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
    others: dict[str, int]

    @property
    def fingerprint(self) -> str:
        """Changes with every file that is added, removed or written."""
        rows = "\n".join(map(repr, self.entries))
        return hashlib.sha256(rows.encode(errors="surrogatepass")).hexdigest()


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
    others: dict[str, int] = {}
    for split, folder in parts.items():
        _check_classes(folder)
        for place in _folders(folder):
            label = unicodedata.normalize("NFC", place.name)
            try:
                place.name.encode()
            except UnicodeEncodeError as problem:
                raise InvalidValue(
                    f"The folder {os.fsencode(place)!r} has a name that is not text in "
                    "UTF-8, which no class can be called. Rename it."
                ) from problem
            before = len(entries)
            for file in files_below(place, _counts):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    entries.append(_entry(root, file, label, split))
                else:
                    suffix = file.suffix.lower() or file.name
                    others[suffix] = others.get(suffix, 0) + 1
            if len(entries) == before:
                empty.append(str(place.relative_to(root)))
    if not entries:
        raise InvalidValue(
            f"{root} contains no folder with images in it. Put those of each class "
            "into a folder of its name, as in cats/1.jpg, or these into train and test."
        )
    entries.sort(key=lambda each: (os.path.basename(each.path), each.label, each.path))
    divided = None not in parts
    return Listing(root, tuple(entries), divided, remarks, tuple(empty), others)


def _parts(root: Path) -> tuple[dict[str | None, Path], tuple[str, ...]]:
    """Where the classes are, by split, or by None where nothing says which; remarks."""
    named = [each for each in _folders(root) if split_named(each.name)]
    splits = [each for each in named if _folders(each)]
    if not splits:
        return {None: root}, ()
    if beside := [p for p in _folders(root) if p not in named and _has_images(p)]:
        raise InvalidValue(
            f"{root} contains {_names(splits)} with folders of classes in them, as "
            f"splits have, beside images in {_names(beside)}. Move these into the "
            "splits, as in train/cats/1.jpg, or elsewhere; rename a class that is "
            "called like a split."
        )
    found: dict[str | None, Path] = {}
    for each in splits:
        split = split_named(each.name)
        if split in found:
            raise InvalidValue(
                f"{root} contains both {found[split].name} and {each.name}, which are "
                f"names of the {split} split. Keep one of them."
            )
        found[split] = each
    unused = [each for each in named if each not in splits and _has_images(each)]
    remarks = [f"{p.name} is not used: it has no folders of classes" for p in unused]
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
        remarks.append(f"{found['test'].name} is used as the test split")
    if "test" not in found:
        found = {None: found["train"]}
    return found, tuple(remarks)


def _check_classes(folder: Path) -> None:
    """Rejects splits in the place of classes."""
    places = [each for each in _folders(folder) if _has_images(each)]
    # Beside others, "train" may be a class: of images of trains.
    classes = [each for each in places if not split_named(each.name)]
    doubtful = [p for p in places if p not in classes]
    if classes and [each.name.casefold() for each in doubtful] == ["train"]:
        doubtful = []
    if doubtful:
        raise InvalidValue(
            f"{folder} contains images in {_names(doubtful)}, named like a split and "
            "not like a class. Put a folder for each class into a split, as in "
            "train/cats/1.jpg, and rename a class that is called like a split."
        )
    for place in classes:
        inside = [p for p in _inside(place) if split_named(p.name) and p.is_dir()]
        kinds = {split_named(each.name) for each in inside}
        if "train" in kinds and len(kinds) > 1:
            raise InvalidValue(
                f"{place} contains {_names(inside)}, which are names of splits. Choose "
                "this folder as the data set, or, if it is a class, put the splits "
                f"above it, as in train/{place.name}/1.jpg."
            )


def _names(folders: list[Path]) -> str:
    names = [each.name for each in folders]
    return ", ".join([*names[:5], *(["and others"] if len(names) > 5 else [])])


def _has_images(place: Path) -> bool:
    return any(
        file.suffix.lower() in IMAGE_SUFFIXES for file in files_below(place, _counts)
    )


def _folders(place: Path) -> list[Path]:
    return [each for each in _inside(place) if each.is_dir()]


def _inside(place: Path) -> list[Path]:
    return [place / name for name in sorted(os.listdir(place)) if _counts(name)]


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in _LITTER


def _entry(root: Path, file: Path, label: str, split: str | None) -> Entry:
    path = file.relative_to(root).as_posix()
    try:
        found = file.stat()
    except OSError:  # a link to nothing: reading it will say so
        return Entry(path, label, split, -1, 0)
    return Entry(path, label, split, found.st_size, found.st_mtime_ns)
