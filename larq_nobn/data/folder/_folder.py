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
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._errors import InvalidValue
from ..._files import cache_folder, replacing
from ..._names import SPLITS
from ..._progress import step
from .._images import Images, Shape, Size, cached_method
from .._registry import DatasetInfo
from .._source import LazyImages, Statistics, statistics
from ._decode import decode, image_of
from ._listing import Entry, Listing, first_few, read_listing

_log = logging.getLogger("larq_nobn")
# Of images of different sizes, or of large ones.
USUAL_SIDE = 96
_LARGEST_SIDE = 224


@dataclass(frozen=True)
class ScannedImage:
    """A file that was opened, or could not be, for which there is a `problem` then.

    The digest is the SHA-256 of its content; height and width are those of the upright
    image; `grey` if it has no colours.
    """

    entry: Entry
    digest: str
    height: int
    width: int
    grey: bool
    problem: str | None


def scan(listing: Listing, notes: Notes) -> list[ScannedImage]:
    """Opens the files that were changed since the last time, several at once.

    What is found is noted, also of those that were opened before an interruption.
    """
    known = {entry: notes.of_file(entry) for entry in listing.entries}
    changed = [entry for entry, noted in known.items() if noted is None]
    pool = ThreadPoolExecutor(os.cpu_count())
    results = pool.map(functools.partial(_look_into, listing.root), changed)
    try:
        for left, (entry, result) in enumerate(zip(changed, results, strict=True)):
            known[entry] = result
            notes.files[entry.path] = [entry.size, entry.changed, *result]
            step("Opening images", len(known) - len(changed) + left + 1, len(known))
    finally:
        pool.shutdown(cancel_futures=True)
        if changed:
            notes.keep()
    return [ScannedImage(entry, *noted) for entry, noted in known.items() if noted]


def _look_into(root: Path, entry: Entry) -> tuple:
    try:
        content = (root / entry.path).read_bytes()
        height, width, channels = decode(content).shape
        digest = hashlib.sha256(content).hexdigest()
        return digest, height, width, channels == 1, None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None)
        return "", 0, 0, False, reason.lower() if reason else str(problem)


_VERSION = 2


class Notes:
    """A file in the user's cache folder; without it, all is found out again.

    It contains, by path, size, time of change and what was found in a file; and mean
    and standard deviation by what they are of.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
        self._name = f"folders/{name}.json"
        self.files: dict[str, list] = {}
        self.statistics: dict[str, Any] = {}
        unusable = (OSError, ValueError, KeyError, TypeError, RecursionError)
        with contextlib.suppress(*unusable):
            content = json.loads((cache_folder() / self._name).read_bytes())
            if content["version"] == _VERSION:
                self.files = dict(content["files"])
                self.statistics = dict(content["statistics"])

    def of_file(self, entry: Entry) -> tuple | None:
        """What was found in a file, unless it has changed since, or was unreadable."""
        noted = self.files.get(entry.path)
        if not isinstance(noted, list) or noted[:2] != [entry.size, entry.changed]:
            return None
        return tuple(noted[2:])

    def keep(self) -> None:
        """Writes all of it, if there is a place for it."""
        content = {"version": _VERSION, "files": self.files}
        content["statistics"] = self.statistics
        with contextlib.suppress(OSError):
            target = cache_folder() / self._name
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")


_HEX_DIGITS = 16
_HOLD_OUT_MORE = (
    " Hold out more in training (train --holdout 0.2), or put images of your choice "
    "into train and test."
)


def divided(
    images: Sequence[ScannedImage], holdout: float, validation: float = 0.0
) -> dict[str, list[ScannedImage]]:
    """Puts images into splits: as their folder says, or by what they contain."""
    parts: dict[str, list[ScannedImage]] = {"train": [], "validation": [], "test": []}
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


class Folder(Images):
    """A folder whose files have all been opened once.

    Its parts are the readable images, of which none may be for validation. `holdout` is
    the test fraction that the content of files decides; None where folders say which
    images are for testing.
    """

    def __init__(
        self,
        root: Path,
        parts: dict[str, list[ScannedImage]],
        class_names: tuple[str, ...],
        holdout: float | None,
    ) -> None:
        self.name, self._root, self._parts = str(root), root, parts
        self.class_names, self.holdout = class_names, holdout

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # nobody sets it
        """A digest of what images show, in their order, and what they are for."""
        lines = [
            f"{split} {image.digest} {image.entry.label!r}"
            for split in SPLITS
            for image in self._parts[split]
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def files(self, split: str) -> list[str]:
        return [str(self._root / image.entry.path) for image in self._parts[split]]

    @cached_method
    def info(self, size: Size) -> DatasetInfo:
        """Their own size if they all have one; grey only if all are."""
        images = [image for part in self._parts.values() for image in part]
        channels = 1 if all(image.grey for image in images) else 3
        size = size or suitable((image.height, image.width) for image in images)
        shape = (*size, channels)
        counts = {split: len(part) for split, part in self._parts.items()}
        return self.described(shape, counts, self._statistics(shape))

    def _statistics(self, shape: Shape) -> Statistics:
        digests = "".join(image.digest for image in self._parts["train"])
        key = f"{shape} {hashlib.sha256(digests.encode()).hexdigest()}"
        notes = Notes(self._root)  # so that they are found out once
        with contextlib.suppress(KeyError, TypeError, ValueError):
            mean, std = notes.statistics[key]
            return tuple(mean), tuple(std)
        if not self._parts["train"]:
            raise InvalidValue(
                f"None of the images in {self.name} is for training, of which mean and "
                "std are taken. Lower the holdout, or give those of a run (like=...)."
            )
        notes.statistics[key] = statistics(self.read("train", shape, 1.0))
        notes.keep()
        return notes.statistics[key]

    @cached_method
    def read(self, split: str, shape: Shape, crop: float) -> LazyImages:
        part, files = self._parts[split], self.files(split)
        as_they_are = crop == 1 and all(
            (image.height, image.width) == shape[:2] and (shape[2] == 3 or image.grey)
            for image in part
        )
        exact = split != "train" and not as_they_are

        def read(index: int) -> np.ndarray:
            try:
                return image_of(Path(files[index]), shape, exact, crop)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise OSError(
                    f"{files[index]} cannot be read any more ({why}). Put it back as "
                    f"it was, or look {self.name} over by larq-nobn data."
                ) from error

        number = {name: place for place, name in enumerate(self.class_names)}
        labels = [number[image.entry.label] for image in part]
        return LazyImages.of(read, labels, shape, exact)


def open_folder(
    root: Path, holdout: float, skip_unreadable: bool, validation: float = 0.0
) -> Folder:
    """Opens a folder, with the arguments and errors of `open_dataset`."""
    listing = read_listing(root)
    if validation and any(entry.split == "validation" for entry in listing.entries):
        raise InvalidValue(
            f"{root} contains a validation split, so validation={validation} does not "
            "apply. Leave it out (--validation)."
        )
    return _opened(listing, holdout, skip_unreadable, validation)


@functools.lru_cache(maxsize=8)
def _opened(
    listing: Listing, holdout: float, skip_unreadable: bool, validation: float
) -> Folder:
    root, images = listing.root, scan(listing, Notes(listing.root))
    good = [image for image in images if image.problem is None]
    if bad := [
        f"{shown(image.entry.path)} ({image.problem})"
        for image in images
        if image.problem is not None
    ]:
        said = f"{len(bad)} of {len(images)} files in {root}"
        if not skip_unreadable:
            raise InvalidValue(
                f"{said} cannot be read: {first_few(bad)}. Repair or remove them, or "
                "leave them out by --skip-unreadable (skip_unreadable=True)."
            )
        _log.warning(
            "%s are left out, because they cannot be read: %s.", said, first_few(bad)
        )
    parts = divided(good, holdout, validation)
    names = tuple(sorted({image.entry.label for image in good}))
    _check(listing, parts, names, holdout)
    return Folder(root, parts, names, None if listing.divided else holdout)


def suitable(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of images: their own if they agree, or 96x96."""
    different = set(sizes)
    if len(different) > 1 or max(max(different)) > _LARGEST_SIDE:
        return USUAL_SIDE, USUAL_SIDE
    return different.pop()


def shown(path: str) -> str:
    """A path as text that can be printed, whatever its bytes are."""
    return path.encode(errors="surrogateescape").decode(errors="replace")


def _check(
    listing: Listing,
    parts: dict[str, list[ScannedImage]],
    names: tuple[str, ...],
    holdout: float,
) -> None:
    root = listing.root
    if len(names) < 2:
        raise InvalidValue(
            f"{root} contains images of {len(names)} class{'' if names else 'es'}"
            f"{''.join(f' ({name})' for name in names)}, but a classifier needs two or "
            "more. Put those of each class into a folder of its own."
            f"{''.join(f' {remark}.' for remark in listing.remarks)}"
        )
    for split, words, needed, change in (
        ("train", "training", holdout < 1, "lower"),
        ("test", "testing", holdout > 0, "raise"),
    ):
        if not parts[split] and needed:
            # Where folders say what is for what, a fraction does not.
            else_ = "" if listing.divided else f", or {change} the holdout={holdout}"
            raise InvalidValue(
                f"None of the images in {root} is for {words}. Add some{else_}."
            )
    for remark in listing.remarks:
        _log.warning("Of %s, %s.", root, remark)
    if listing.empty:
        _log.warning(
            "%s contains no image of %s, which is left out of the classes.",
            *(root, ", ".join(listing.empty)),
        )
    for split, part in parts.items():
        lacking = [*{*names} - {image.entry.label for image in part}]
        if part and lacking:
            _log.warning(
                "The %s images in %s lack %d of %d classes: %s.%s",
                *(split, root, len(lacking), len(names), first_few(sorted(lacking))),
                "" if listing.divided else _HOLD_OUT_MORE,
            )
