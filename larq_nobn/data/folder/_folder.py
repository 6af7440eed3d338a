"""An image folder as a data set: every file is opened once, and found by its number.

Results are cached in the user's cache folder, never in the image folder itself.
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
# Number of files whose headers are read to guess the common size.
_GUESSED_FROM = 16
# Names of files and folders that systems leave in image folders.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Entry:
    """A file that should be an image."""

    path: str  # relative to the folder
    label: str  # the name of the folder of its class
    split: str | None  # None if its content decides
    size: int
    changed: int  # in nanoseconds


@dataclass(frozen=True)
class Listing:
    """The files of a folder, not opened yet; further fields as in `Overview`."""

    root: Path
    # Sorted by file name, so that classes and splits are mixed.
    entries: tuple[Entry, ...]
    divided: bool
    remarks: tuple[str, ...]
    empty: tuple[str, ...]
    others: dict[str, int] = field(compare=False)


def read_listing(root: Path) -> Listing:
    """Lists the images of a folder; raises as `inspect_folder` does."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {root}. Pass one that contains a folder of images for "
            "each class."
        )
    folders, remarks = _split_folders(root)
    entries: list[Entry] = []
    empty: list[str] = []
    others: Counter[str] = Counter()
    for split, folder in folders.items():
        for place in _folders_in(folder):
            label = unicodedata.normalize("NFC", place.name)
            before = len(entries)
            for file in files_below(place, _visible):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    entries.append(_entry(root, file, label, split))
                else:
                    others[file.suffix.lower() or file.name] += 1
            if len(entries) == before:
                empty.append(str(place.relative_to(root)))
    if not entries:
        raise InvalidValue(
            f"{root} contains no folder with images. Put the images of each class into "
            "a folder with its name, as in cats/1.jpg, or in train/cats/1.jpg."
        )
    entries.sort(key=lambda e: (os.path.basename(e.path), e.label, e.path))
    divided = None not in folders
    return Listing(root, tuple(entries), divided, remarks, tuple(empty), dict(others))


def _split_folders(root: Path) -> tuple[dict[str | None, Path], tuple[str, ...]]:
    """Returns the folder that contains the classes of each split, and remarks.

    The key is None if contents decide the split. The folder of a split is named like
    one, and contains folders.
    """
    folders = _folders_in(root)
    named = [place for place in folders if split_named(place.name)]
    splits = [place for place in named if _folders_in(place)]
    flat = [place for place in named if place not in splits and _has_images(place)]
    classes = [place for place in folders if place not in named and _has_images(place)]
    if classes and [place.name.casefold() for place in flat] == ["train"]:
        flat = []  # a class of photos of trains
    if (classes and splits) or (flat and not splits):
        of_splits, others = ([p.name for p in a] for a in (splits or flat, classes))
        raise InvalidValue(
            f"{root} contains {first_few(of_splits)}, named like a split, and "
            f"{first_few(others) or 'no class'}. Put a folder for each class into each "
            "split, as in train/cats/1.jpg, and rename classes that are named like one."
        )
    if not splits:
        return {None: root}, ()
    found: dict[str | None, Path] = {}
    for place in splits:
        split = split_named(place.name)
        if split in found:
            raise InvalidValue(
                f"{root} contains both {found[split].name} and {place.name}, which are "
                f"names of the {split} split. Keep one of them."
            )
        found[split] = place
    remarks = [f"{p.name} is not used: it has no folders of classes" for p in flat]
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
        remarks.append(f"{found['test'].name} is used as the test split")
    if "test" not in found:
        found = {None: found["train"]}
    return found, tuple(remarks)


def first_few(names: Sequence[str]) -> str:
    """Returns up to five names, and the number of the others."""
    more = [f"and {len(names) - 5} more"] if len(names) > 5 else []
    return ", ".join([*names[:5], *more])


def _has_images(place: Path) -> bool:
    files = files_below(place, _visible)
    return any(file.suffix.lower() in IMAGE_SUFFIXES for file in files)


def _folders_in(place: Path) -> list[Path]:
    names = sorted(filter(_visible, os.listdir(place)))
    return [place / name for name in names if (place / name).is_dir()]


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in _LITTER


def _entry(root: Path, file: Path, label: str, split: str | None) -> Entry:
    path = file.relative_to(root).as_posix()
    try:
        state = file.stat()
    except OSError:  # a broken link: reading the file will raise
        return Entry(path, label, split, -1, 0)
    return Entry(path, label, split, state.st_size, state.st_mtime_ns)


@dataclass(frozen=True)
class ScannedImage:
    """A file that was opened; `problem` says why it could not be read, if so."""

    entry: Entry
    digest: str  # the SHA-256 of its content
    height: int  # like the width, of the upright image
    width: int
    gray: bool
    problem: str | None


def scan(
    listing: Listing, keep: Callable[[Entry, str, np.ndarray], None] | None = None
) -> list[ScannedImage]:
    """Opens all files, several at once, unless none has changed since the last scan.

    `keep` is called with each opened file, its digest and its pixels.
    """
    transient: list[Entry] = []  # not readable now, perhaps later

    def read(entry: Entry) -> tuple:
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

    def read_all() -> list[tuple]:
        pool = ThreadPoolExecutor(os.cpu_count())
        found = []
        try:
            for result in pool.map(read, listing.entries):
                found.append(result)
                step("Opening images", len(found), len(listing.entries))
        finally:
            pool.shutdown(cancel_futures=True)
        return found

    state = repr(listing.entries)
    known = remembered(listing.root, "files", state, read_all, lambda: not transient)
    pairs = zip(listing.entries, known, strict=True)
    return [ScannedImage(entry, *each) for entry, each in pairs]


def remembered(
    root: Path,
    what: str,
    state: str,
    find: Callable[[], Any],
    lasts: Callable[[], bool] = lambda: True,
) -> Any:
    """Returns what `find` returns, from a cache if the folder is in the same state.

    Results are cached as JSON in the user's cache folder, if it can be written and if
    the result `lasts`.
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
    """Returns the images of each split, which their folder or content decides."""
    by_split: dict[str, list[ScannedImage]] = {split: [] for split in SPLITS}
    for image in images:
        split = split_of(image.entry.split, image.digest, holdout, validation)
        by_split[split].append(image)
    return by_split


def split_of(named: str | None, digest: str, holdout: float, validation: float) -> str:
    """Returns the split of a file: that of its folder, else by its SHA-256.

    Equal files have equal digests, so they are in one split. A file stays in its split
    when others are added or removed. Validation and test images are drawn
    independently.
    """
    split = named or ("test" if _is_held_out(digest, holdout) else "train")
    held_out = split == "train" and _is_held_out(digest[_HEX_DIGITS:], validation)
    return "validation" if held_out else split


def _is_held_out(digest: str, fraction: float) -> bool:
    return int(digest[:_HEX_DIGITS], 16) / 16**_HEX_DIGITS < fraction


# Decoded images of the folder that was opened last; opening another one frees them.
_decoded: list[dict[str, np.ndarray]] = []


class Folder(Images):
    """An image folder whose files have been opened; splits contain the readable ones.

    The scan decodes the images, and keeps them in the expected `size` for their first
    use.
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
        while _decoded:
            _decoded.pop().clear()
        self._decoded: dict[str, np.ndarray] = {}
        _decoded.append(self._decoded)

        def keep(entry: Entry, digest: str, pixels: np.ndarray) -> None:
            split = split_of(entry.split, digest, holdout, validation)
            shape = (*size, pixels.shape[2])
            self._decoded[entry.path] = fitted(pixels, shape, split != "train")

        fits = len(listing.entries) * 3 * size[0] * size[1] <= IN_MEMORY
        images = scan(listing, keep if fits else None)
        good = [image for image in images if image.problem is None]
        if bad := [f"{shown(i.entry.path)} ({i.problem})" for i in images if i.problem]:
            said = f"{len(bad)} of {len(images)} files in {root} cannot be read"
            if not skip_unreadable:
                raise InvalidValue(
                    f"{said}: {first_few(bad)}. Repair or remove them, or skip them "
                    "by --skip-unreadable (skip_unreadable=True)."
                )
            _log.warning("%s, and are skipped: %s.", said, first_few(bad))
        by_split = divided(good, holdout, validation)
        names = tuple(sorted({image.entry.label for image in good}))
        if len(names) < 2:
            raise InvalidValue(
                f"{root} contains images of {first_few(names) or 'no class'} only, but "
                "a classifier needs two classes or more. Put the images of each class "
                "into a folder of its own."
            )
        for split, needed in (("train", holdout < 1), ("test", holdout > 0)):
            if not by_split[split] and needed:
                raise InvalidValue(
                    f"{root} has no image for split={split!r}. Add some, or, without a "
                    f"test folder, change holdout={holdout}."
                )
        for remark in listing.remarks:
            _log.warning("In %s, %s.", root, remark)
        for split, own in by_split.items():
            lacking = sorted({*names} - {image.entry.label for image in own})
            if own and lacking:
                _log.warning(
                    "The %s images in %s lack %d of %d classes: %s.",
                    *(split, root, len(lacking), len(names), first_few(lacking)),
                )
        self._root, self._by_split, self.class_names = root, by_split, names
        self.holdout = None if listing.divided else holdout

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # nobody sets it
        """A digest of contents, classes and splits of the images, in their order."""
        lines = [
            f"{split} {image.digest} {image.entry.label!r}"
            for split in SPLITS
            for image in self._by_split[split]
        ]
        return _digest("\n".join(lines))

    def digests(self, split: str) -> list[str]:
        return [image.digest for image in self._by_split[split]]

    def files(self, split: str) -> list[str]:
        return [str(self._root / image.entry.path) for image in self._by_split[split]]

    def counts(self) -> dict[str, int]:
        return {split: len(own) for split, own in self._by_split.items()}

    @cached_method
    def own_shape(self) -> Shape:
        """Returns the common size, and one channel if all images are gray."""
        images = [image for own in self._by_split.values() for image in own]
        channels = 1 if all(image.gray for image in images) else 3
        return (*suitable(self.sizes()), channels)

    def sizes(self) -> set[tuple[int, int]]:
        return {(x.height, x.width) for own in self._by_split.values() for x in own}

    def statistics(self, shape: Shape) -> Statistics:
        digests = "".join(image.digest for image in self._by_split["train"])
        find = functools.partial(super().statistics, shape)
        mean, std = remembered(self._root, f"statistics {shape}", digests, find)
        return tuple(mean), tuple(std)

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> Source:
        own, exact = self._by_split[split], split != "train"
        number_of = {name: number for number, name in enumerate(self.class_names)}
        labels = np.array([number_of[image.entry.label] for image in own], np.int64)

        def read(number: int, region: np.ndarray | None) -> tuple[np.ndarray, int]:
            path, label, image = own[number].entry.path, labels[number], None
            if region is None and crop == 1:
                image = self._decoded.pop(path, None)
            if image is not None and image.shape in (shape, (*shape[:2], 1)):
                return np.broadcast_to(image, shape), label
            try:
                return image_of(self._root / path, shape, exact, crop, region), label
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise OSError(
                    f"{self._root / path} can no longer be read ({why}). Restore it, "
                    f"or inspect {self.name} with larq-nobn data."
                ) from error

        return Source(len(own), shape, "float32" if exact else "uint8", labels, read)


def _sizes(root: Path, entries: Iterable[Entry]) -> Iterator[tuple[int, int]]:
    """Yields the heights and widths that are in the headers of files."""
    with needing("Images need Pillow", "data"):
        from PIL import Image
    unreadable = OSError, ValueError, Image.DecompressionBombError
    for entry in entries:
        with contextlib.suppress(*unreadable), Image.open(root / entry.path) as image:
            yield image.height, image.width


def shown(path: str) -> str:
    """Returns a path as text that can be printed, whatever its bytes are."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
