"""What lies in a folder of pictures: splits, classes, files."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ._decode import SUFFIXES

# What holds the test pictures beside `train`; the first that is there.
_TEST_FOLDERS = ("test", "validation", "val")
_TRAIN_FOLDER = "train"
# What systems leave in folders of pictures.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Entry:
    """A file that should be a picture.

    Arguments:
        path: Relative to the folder.
        label: The class, by the name of its folder.
        split: `"train"` or `"test"` where folders say it; None where its content will.
        size: Bytes; -1 where that cannot be asked.
        changed: When it was last changed, in nanoseconds.
    """

    path: str
    label: str
    split: str | None
    size: int
    changed: int


@dataclass(frozen=True)
class Listing:
    """A folder, read without opening a file of it.

    Arguments:
        root: The folder.
        entries: Its pictures. By file name, so that neither classes nor splits come one
            after the other.
        divided: Whether it has folders for training and for testing.
        empty: Names of classes without a picture, as `"train/cat"`.
        others: How many files there are of other kinds, by suffix.
    """

    root: Path
    entries: tuple[Entry, ...]
    divided: bool
    empty: tuple[str, ...]
    others: dict[str, int]

    @property
    def fingerprint(self) -> str:
        """Changes with every file that is added, removed or written."""
        rows = "\n".join(map(repr, self.entries))
        return hashlib.sha256(rows.encode(errors="surrogatepass")).hexdigest()


def read_listing(root: Path) -> Listing:
    """Lists the pictures of a folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If it is a file.
        ValueError: If it has no folder with pictures in it.
    """
    if not root.exists():
        raise FileNotFoundError(
            f"There is no folder {root}. Pass one that holds a folder of pictures for "
            "each class."
        )
    if not root.is_dir():
        raise NotADirectoryError(
            f"{root} is a file. Pass a folder that holds a folder of pictures for each "
            "class."
        )
    parts = _parts(root)
    entries: list[Entry] = []
    empty: list[str] = []
    others: dict[str, int] = {}
    for split, folder in parts.items():
        for place in _folders(folder):
            label = unicodedata.normalize("NFC", place.name)
            _check_name(place)
            before = len(entries)
            for file in _files(place, ()):
                if file.suffix.lower() in SUFFIXES:
                    entries.append(_entry(root, file, label, split))
                else:
                    suffix = file.suffix.lower() or file.name
                    others[suffix] = others.get(suffix, 0) + 1
            if len(entries) == before:
                empty.append(str(place.relative_to(root)))
    if not entries:
        raise ValueError(
            f"{root} holds no folder with pictures in it. Put those of each class into "
            "a folder of its name, as in cats/1.jpg, or these into train and test."
        )
    entries.sort(key=lambda each: (os.path.basename(each.path), each.label, each.path))
    return Listing(root, tuple(entries), None not in parts, tuple(empty), others)


def _parts(root: Path) -> dict[str | None, Path]:
    """Where the classes are, by split; or by None where nothing says which."""
    inside = {folder.name.lower(): folder for folder in _folders(root)}
    train = inside.get(_TRAIN_FOLDER)
    if train is None or not _folders(train):
        return {None: root}
    tests = [inside[name] for name in _TEST_FOLDERS if name in inside]
    test = next((folder for folder in tests if _folders(folder)), None)
    if test is not None:
        return {"train": train, "test": test}
    # Alone it holds all classes; beside others it is a class: of pictures of trains.
    return {None: train if len(inside) == 1 else root}


def _folders(place: Path) -> list[Path]:
    return [each for each in _inside(place) if each.is_dir()]


def _inside(place: Path) -> list[Path]:
    names = sorted(os.listdir(place))
    return [place / n for n in names if not n.startswith(".") and n not in _LITTER]


def _files(place: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """All files, however deep; links are followed, but not in circles."""
    real = os.path.realpath(place)
    if real in above:
        return
    for each in _inside(place):
        if each.is_dir():
            yield from _files(each, (*above, real))
        else:
            yield each


def _entry(root: Path, file: Path, label: str, split: str | None) -> Entry:
    path = file.relative_to(root).as_posix()
    try:
        found = file.stat()
    except OSError:  # a link to nothing: reading it will say so
        return Entry(path, label, split, -1, 0)
    return Entry(path, label, split, found.st_size, found.st_mtime_ns)


def _check_name(place: Path) -> None:
    try:
        place.name.encode()
    except UnicodeEncodeError as problem:
        raise ValueError(
            f"The folder {os.fsencode(place)!r} has a name that is no text in UTF-8, "
            "which no class can be called. Rename it."
        ) from problem
