"""A folder of images as a data set: every file is opened once, and found by number.

What is found out is remembered in the user's cache folder, never in the folder itself.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..._errors import InvalidValue, needing
from ..._files import cache_folder, files_below, replacing
from ..._names import IMAGE_SUFFIXES, SPLITS, split_named
from ..._progress import step
from .._images import Images, Shape, Size, cached_method, suitable
from .._source import IN_MEMORY, Source, Statistics
from ._decode import decode, fitted, image_of

_log = logging.getLogger("larq_nobn")
HOLDOUT = "[0, 1]", "0.1 keeps every tenth for testing."
# So many files, by what they say of their size, let expect that of all.
_GUESSED_FROM = 16
# What systems leave in folders of images.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Entry:
    """A file that should be an image."""

    path: str  # relative to the folder
    label: str  # the name of the folder of its class
    split: str | None  # None where its content will decide
    size: int
    changed: int  # in nanoseconds


@dataclass(frozen=True)
class Listing:
    """A folder, read without opening a file of it; further fields as in `Overview`."""

    root: Path
    # By file name, so that neither classes nor splits come one after the other.
    entries: tuple[Entry, ...]
    divided: bool
    remarks: tuple[str, ...]
    empty: tuple[str, ...]
    others: dict[str, int] = field(compare=False)


def read_listing(root: Path) -> Listing:
    """Lists the images of a folder, with the errors of `inspect_folder`."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {root}. Pass one that contains a folder of images for "
            "each class."
        )
    parts, remarks = _parts(root)
    entries: list[Entry] = []
    empty: list[str] = []
    others: Counter[str] = Counter()
    for split, folder in parts.items():
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
    return Listing(root, tuple(entries), divided, remarks, tuple(empty), dict(others))


def _parts(root: Path) -> tuple[dict[str | None, Path], tuple[str, ...]]:
    """Where the classes are, by split, or by None where nothing says which; remarks.

    A split is a folder that is called like one, and has folders in it.
    """
    folders = _folders(root)
    named = [place for place in folders if split_named(place.name)]
    splits = [place for place in named if _folders(place)]
    doubtful = [place for place in named if place not in splits and _has_images(place)]
    classes = [place for place in folders if place not in named and _has_images(place)]
    if classes and [place.name.casefold() for place in doubtful] == ["train"]:
        doubtful = []  # a class of images of trains
    if (classes and splits) or (doubtful and not splits):
        of_splits, others = ([p.name for p in a] for a in (splits or doubtful, classes))
        raise InvalidValue(
            f"{root} contains {first_few(of_splits)}, named like a split, beside "
            f"{first_few(others) or 'no class'}. Put a folder for each class into each "
            "split, as in train/cats/1.jpg, and rename a class that is called like one."
        )
    if not splits:
        return {None: root}, ()
    parts: dict[str | None, Path] = {}
    for place in splits:
        split = split_named(place.name)
        if split in parts:
            raise InvalidValue(
                f"{root} contains both {parts[split].name} and {place.name}, which are "
                f"names of the {split} split. Keep one of them."
            )
        parts[split] = place
    remarks = [f"{p.name} is not used: it has no folders of classes" for p in doubtful]
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        remarks.append(f"{parts['test'].name} is used as the test split")
    if "test" not in parts:
        parts = {None: parts["train"]}
    return parts, tuple(remarks)


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


@dataclass(frozen=True)
class ScannedImage:
    """A file that was opened, or could not be, for which there is a `problem` then."""

    entry: Entry
    digest: str  # the SHA-256 of its content
    height: int  # of the upright image, as the width
    width: int
    gray: bool
    problem: str | None


def scan(
    listing: Listing, keep: Callable[[Entry, str, np.ndarray], None] | None = None
) -> list[ScannedImage]:
    """Opens all files, several at once, unless none has changed since the last time.

    `keep` gets the digest and the pixels of each that is opened.
    """
    transient: list[Entry] = []  # which could not be read, but may be another time

    def look_into(entry: Entry) -> tuple:
        try:
            content = (listing.root / entry.path).read_bytes()
            pixels = decode(content)
        except (OSError, ValueError) as problem:
            if isinstance(problem, OSError):
                transient.append(entry)
            reason = getattr(problem, "strerror", None)
            return "", 0, 0, False, reason.lower() if reason else str(problem)
        digest = hashlib.sha256(content).hexdigest()
        if keep is not None:
            keep(entry, digest, pixels)
        height, width, channels = pixels.shape
        return digest, height, width, channels == 1, None

    def look() -> list[tuple]:
        pool = ThreadPoolExecutor(os.cpu_count())
        found = []
        try:
            for result in pool.map(look_into, listing.entries):
                found.append(result)
                step("Opening images", len(found), len(listing.entries))
        finally:
            pool.shutdown(cancel_futures=True)
        return found

    state = repr(listing.entries)
    known = remembered(listing.root, "files", state, look, lambda: not transient)
    pairs = zip(listing.entries, known, strict=True)
    return [ScannedImage(entry, *each) for entry, each in pairs]


def remembered(
    root: Path,
    what: str,
    state: str,
    find: Callable[[], Any],
    lasts: Callable[[], bool] = lambda: True,
) -> Any:
    """Returns what `find` found when a folder was in this state the last time.

    It is kept as JSON in the user's cache folder, if there is a place for it, and what
    is found `lasts`.
    """
    name = f"folders/{_digest(f'{os.path.realpath(root)} {what}')}.json"
    state = _digest(state)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads((cache_folder() / name).read_bytes())
        if known["state"] == state:
            return known["found"]
    found = find()
    if not lasts():
        return found
    with contextlib.suppress(OSError):
        target = cache_folder() / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            content = json.dumps({"state": state, "found": found})
            temporary.write_text(content, encoding="utf-8")
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


_HEX_DIGITS = 16


def divided(
    images: Sequence[ScannedImage], holdout: float, validation: float = 0.0
) -> dict[str, list[ScannedImage]]:
    """Puts images into splits: as their folder says, or by what they contain."""
    parts: dict[str, list[ScannedImage]] = {split: [] for split in SPLITS}
    for image in images:
        split = split_of(image.entry.split, image.digest, holdout, validation)
        parts[split].append(image)
    return parts


def split_of(named: str | None, digest: str, holdout: float, validation: float) -> str:
    """The split of a file, which its SHA-256 decides if its place does not.

    Equal files have equal digests, and so are never in two splits, and a file stays in
    its split when others come or go. What is for validation is independent of what is
    for testing.
    """
    split = named or ("test" if _is_held_out(digest, holdout) else "train")
    held_out = split == "train" and _is_held_out(digest[_HEX_DIGITS:], validation)
    return "validation" if held_out else split


def _is_held_out(digest: str, share: float) -> bool:
    return int(digest[:_HEX_DIGITS], 16) / 16**_HEX_DIGITS < share


# The images that the folder that was opened last keeps: others free their memory.
_kept: list[dict[str, np.ndarray]] = []


class Folder(Images):
    """A folder whose files have all been opened; its parts are the readable ones.

    What is decoded to look into it is kept in the `size` that is expected, to be read
    once.
    """

    def __init__(
        self,
        listing: Listing,
        holdout: float,
        skip_unreadable: bool,
        validation: float,
        size: Size = None,
    ) -> None:
        self.name, root = str(listing.root), listing.root
        self.check_division(validation, {entry.split for entry in listing.entries})
        size = size or suitable(_sizes(root, listing.entries[:_GUESSED_FROM]))
        while _kept:
            _kept.pop().clear()
        self._kept: dict[str, np.ndarray] = {}
        _kept.append(self._kept)

        def keep(entry: Entry, digest: str, pixels: np.ndarray) -> None:
            split = split_of(entry.split, digest, holdout, validation)
            shape = (*size, pixels.shape[2])
            self._kept[entry.path] = fitted(pixels, shape, split != "train")

        fits = len(listing.entries) * 3 * size[0] * size[1] <= IN_MEMORY
        images = scan(listing, keep if fits else None)
        good = [image for image in images if image.problem is None]
        if bad := [f"{shown(i.entry.path)} ({i.problem})" for i in images if i.problem]:
            said = f"{len(bad)} of {len(images)} files in {root} cannot be read"
            if not skip_unreadable:
                raise InvalidValue(
                    f"{said}: {first_few(bad)}. Repair or remove them, or leave them "
                    "out by --skip-unreadable (skip_unreadable=True)."
                )
            _log.warning("%s, and are left out: %s.", said, first_few(bad))
        parts = divided(good, holdout, validation)
        names = tuple(sorted({image.entry.label for image in good}))
        if len(names) < 2:
            raise InvalidValue(
                f"{root} contains images of {first_few(names) or 'no class'} only, but "
                "a classifier needs two classes or more. Put the images of each into a "
                "folder of its own."
            )
        for split, needed in (("train", holdout < 1), ("test", holdout > 0)):
            if not parts[split] and needed:
                raise InvalidValue(
                    f"{root} has no image for split={split!r}. Add some, or, if no "
                    f"folder says which are for testing, change holdout={holdout}."
                )
        for remark in listing.remarks:
            _log.warning("Of %s, %s.", root, remark)
        for split, part in parts.items():
            lacking = sorted({*names} - {image.entry.label for image in part})
            if part and lacking:
                _log.warning(
                    "The %s images in %s lack %d of %d classes: %s.",
                    *(split, root, len(lacking), len(names), first_few(lacking)),
                )
        self._root, self._parts, self.class_names = root, parts, names
        self.holdout = None if listing.divided else holdout

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # nobody sets it
        """A digest of what images show, in their order, and what they are for."""
        lines = [
            f"{split} {image.digest} {image.entry.label!r}"
            for split in SPLITS
            for image in self._parts[split]
        ]
        return _digest("\n".join(lines))

    def digests(self, split: str) -> list[str]:
        return [image.digest for image in self._parts[split]]

    def files(self, split: str) -> list[str]:
        return [str(self._root / image.entry.path) for image in self._parts[split]]

    def counts(self) -> dict[str, int]:
        return {split: len(part) for split, part in self._parts.items()}

    @cached_method
    def own_shape(self) -> Shape:
        """Their own size if they all have one; gray only if all are."""
        images = [image for part in self._parts.values() for image in part]
        channels = 1 if all(image.gray for image in images) else 3
        return (*suitable(self.sizes()), channels)

    def sizes(self) -> set[tuple[int, int]]:
        return {(x.height, x.width) for part in self._parts.values() for x in part}

    def statistics(self, shape: Shape) -> Statistics:
        digests = "".join(image.digest for image in self._parts["train"])
        find = functools.partial(super().statistics, shape)
        mean, std = remembered(self._root, f"statistics {shape}", digests, find)
        return tuple(mean), tuple(std)

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        part, exact = self._parts[split], split != "train"
        number_of = {name: number for number, name in enumerate(self.class_names)}
        labels = np.array([number_of[image.entry.label] for image in part], np.int64)

        def read(number: int, seen: np.ndarray | None) -> tuple[np.ndarray, int]:
            path, label = part[number].entry.path, labels[number]
            kept = self._kept.pop(path, None) if seen is None and crop == 1 else None
            if kept is not None and kept.shape in (shape, (*shape[:2], 1)):
                return np.broadcast_to(kept, shape), label
            try:
                return image_of(self._root / path, shape, exact, crop, seen), label
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise OSError(
                    f"{self._root / path} cannot be read any more ({why}). Put it back "
                    f"as it was, or look {self.name} over by larq-nobn data."
                ) from error

        kind = "float32" if exact else "uint8"
        return Source(len(part), shape, kind, labels, read)


def _sizes(root: Path, entries: Iterable[Entry]) -> Iterator[tuple[int, int]]:
    """Heights and widths of files as far as these say it at their beginning."""
    with needing("Images need Pillow", "data"):
        from PIL import Image
    unreadable = OSError, ValueError, Image.DecompressionBombError
    for entry in entries:
        file = root / entry.path
        with contextlib.suppress(*unreadable), Image.open(file) as image:
            yield image.height, image.width


def shown(path: str) -> str:
    """A path as text that can be printed, whatever its bytes are."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
