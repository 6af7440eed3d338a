"""A folder of images as a data set: every file is opened once, and found by number.

What is found out is remembered in the user's cache folder, never in the folder itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ..._errors import InvalidValue
from ..._files import cache_folder, replacing
from ..._names import SPLITS
from ..._progress import step
from .._images import Shape, described, once, remembered
from .._registry import DatasetInfo, check_normalization
from .._source import LazyImages, statistics
from ._decode import FORMATS, decode, format_of, image_of
from ._listing import Entry, Listing, read_listing

_log = logging.getLogger("larq_nobn")
# Of images of different sizes, or of large ones.
USUAL_SIDE = 96
_LARGEST_SIDE = 224
_NAMED = 5


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
    format: str
    problem: str | None


def scan(listing: Listing, notes: Notes) -> list[ScannedImage]:
    """Opens the files that were changed since the last time, several at once.

    What is found is noted, also of those that were opened before an interruption.
    """
    known = [notes.of_file(each) for each in listing.entries]
    missing = [place for place, found in enumerate(known) if found is None]
    done = len(known) - len(missing)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            entries = [listing.entries[place] for place in missing]
            results = pool.map(lambda each: _look_into(listing.root, each), entries)
            try:
                for place, found in zip(missing, results, strict=True):
                    known[place], entry = found, listing.entries[place]
                    notes.files[entry.path] = [entry.size, entry.changed, *found]
                    done += 1
                    step("Opening images", done, len(known))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        if missing:
            notes.keep()
    return [
        ScannedImage(entry, *found)
        for entry, found in zip(listing.entries, known, strict=True)
        if found is not None
    ]


def _look_into(root: Path, entry: Entry) -> tuple:
    try:
        content = (root / entry.path).read_bytes()
        height, width, channels = decode(content).shape
        digest = hashlib.sha256(content).hexdigest()
        return digest, height, width, channels == 1, format_of(content), None
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        return "", 0, 0, False, "", reason
    except ValueError as problem:
        return "", 0, 0, False, "", str(problem)


_VERSION = 1
# Types of what is noted of an image: all of a `ScannedImage` but where it lies.
_READABLE = (str, int, int, bool, str, type(None))
_DIGEST, _NO_SIDE = re.compile("[0-9a-f]{64}"), 1 << 31


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
        with contextlib.suppress(
            OSError, ValueError, KeyError, TypeError, RecursionError
        ):
            found = json.loads((cache_folder() / self._name).read_bytes())
            if found["version"] == _VERSION:
                self.files = dict(found["files"])
                self.statistics = dict(found["statistics"])

    def of_file(self, entry: Entry) -> tuple | None:
        """What was found in a file, unless it has changed since, or was unreadable."""
        noted = self.files.get(entry.path)
        if not isinstance(noted, list) or noted[:2] != [entry.size, entry.changed]:
            return None
        found = tuple(noted[2:])
        if tuple(map(type, found)) != _READABLE:
            return None
        digest, height, width, _, kind, _ = found
        sizes = 0 < height < _NO_SIDE and 0 < width < _NO_SIDE
        known = _DIGEST.fullmatch(digest) and sizes and kind in FORMATS
        return found if known else None

    def statistics_of(self, key: str, channels: int) -> Any:
        """Mean and standard deviation of each channel; None if they are not noted."""
        try:
            mean, std = self.statistics[key]
            check_normalization((1, 1, channels), mean, std, 1.0)
        except (KeyError, TypeError, ValueError):
            return None
        return (mean, std) if len(mean) == channels else None

    def keep(self) -> None:
        """Writes all of it, if there is a place for it."""
        content = {
            "version": _VERSION,
            "files": self.files,
            "statistics": self.statistics,
        }
        with contextlib.suppress(OSError):
            target = cache_folder() / self._name
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")


_HEX_DIGITS = 16


def divided(
    images: Sequence[ScannedImage], holdout: float, validation: float = 0.0
) -> dict[str, list[ScannedImage]]:
    """Puts images into splits: as their folder says, or by what they contain.

    Equal files have equal digests, and so are never in two splits, and a file stays in
    its split when others come or go.
    """
    parts: dict[str, list[ScannedImage]] = {"train": [], "validation": [], "test": []}
    for each in images:
        by_content = "test" if is_held_out(each.digest, holdout) else "train"
        split = each.entry.split or by_content
        if split == "train" and is_for_validation(each.digest, validation):
            split = "validation"
        parts[split].append(each)
    return parts


def is_for_validation(digest: str, validation: float) -> bool:
    """Whether a training image is for validation; unlike `is_held_out`, of which it is
    independent.
    """
    return is_held_out(digest[_HEX_DIGITS:], validation)


def is_held_out(digest: str, holdout: float) -> bool:
    """Whether a file of some SHA-256 is one of a share that is for testing."""
    return int(digest[:_HEX_DIGITS], 16) / 16**_HEX_DIGITS < holdout


class Folder:
    """A folder whose files have all been opened once.

    Its parts are the readable images by split, of which validation may have none.
    """

    def __init__(
        self,
        root: Path,
        parts: dict[str, list[ScannedImage]],
        class_names: tuple[str, ...],
    ) -> None:
        self.name, self.root = str(root), root
        self.parts, self.class_names = parts, class_names

    @property
    def content(self) -> str:
        """A digest of what the images show, in their order, and what they are for."""
        lines = [
            f"{split} {each.digest} {each.entry.label!r}"
            for split in SPLITS
            for each in self.parts[split]
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @remembered
    def info(self, size: tuple[int, int] | None) -> DatasetInfo:
        """Their own size if they all have one; grey only if all are."""
        images = [each for part in self.parts.values() for each in part]
        channels = 1 if all(each.grey for each in images) else 3
        size = size or suitable((each.height, each.width) for each in images)
        shape = (*size, channels)
        counts = {split: len(part) for split, part in self.parts.items()}
        found = self._statistics(shape)
        return described(self.name, self.class_names, shape, counts, found)

    def _statistics(self, shape: Shape) -> tuple[tuple[float, ...], tuple[float, ...]]:
        digests = "".join(each.digest for each in self.parts["train"])
        key = f"{shape} {hashlib.sha256(digests.encode()).hexdigest()}"
        notes = Notes(self.root)  # so that they are found out once
        found = notes.statistics_of(key, shape[2])
        if found is None and not self.parts["train"]:
            raise InvalidValue(
                f"None of the images in {self.root} is for training, of which mean and "
                "std are taken. Lower the holdout, or give those of a run (like=...)."
            )
        if found is None:
            found = notes.statistics[key] = statistics(self.read("train", shape, 1.0))
            notes.keep()
        mean, std = found
        return tuple(mean), tuple(std)

    @remembered
    def read(self, split: str, shape: Shape, crop: float) -> LazyImages:
        """The images of a split: bytes to train with, exact means to test with."""
        part = self.parts[split]
        places = [self.root / each.entry.path for each in part]
        as_they_are = crop == 1 and all(
            (each.height, each.width) == shape[:2] and (shape[2] == 3 or each.grey)
            for each in part
        )
        exact = split != "train" and not as_they_are
        number = {name: place for place, name in enumerate(self.class_names)}
        labels = np.array([number[each.entry.label] for each in part], np.int64)

        def image(index: int) -> np.ndarray:
            path = places[index]
            try:
                return image_of(path, shape, exact, crop)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise OSError(
                    f"{path} cannot be read any more ({why}). Put it back as it was, "
                    f"or look {self.root} over by larq-nobn data."
                ) from error

        dtype = "float32" if exact else "uint8"
        with tf.device("CPU:0"):
            return LazyImages(image, tf.constant(labels), shape, dtype)


def open_folder(
    root: Path, holdout: float, skip_unreadable: bool, validation: float = 0.0
) -> Folder:
    """Opens a folder, with the arguments and errors of `open_dataset`."""
    listing = read_listing(root)
    if validation and any(each.split == "validation" for each in listing.entries):
        raise InvalidValue(
            f"{root} contains a validation split, so validation={validation} does not "
            "apply. Leave it out (--validation)."
        )
    return once(
        (root, listing.fingerprint, holdout, skip_unreadable, validation),
        lambda: _opened(listing, holdout, skip_unreadable, validation),
    )


def _opened(
    listing: Listing, holdout: float, skip_unreadable: bool, validation: float
) -> Folder:
    images = scan(listing, Notes(listing.root))
    good = [each for each in images if each.problem is None]
    bad = [each for each in images if each.problem is not None]
    if bad and not skip_unreadable:
        raise InvalidValue(
            f"{len(bad)} of {len(images)} files in {listing.root} cannot be read: "
            f"{_named(bad)}. Repair or remove them, or leave them out by "
            "--skip-unreadable (skip_unreadable=True)."
        )
    if bad:
        _log.warning(
            "%d of %d files in %s are left out, because they cannot be read: %s.",
            len(bad), len(images), listing.root, _named(bad),
        )  # fmt: skip
    parts = divided(good, holdout, validation)
    names = tuple(sorted({each.entry.label for each in good}))
    _check(listing, parts, names, holdout)
    return Folder(listing.root, parts, names)


def suitable(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of images: their own if they agree, or 96x96."""
    found = set(sizes)
    one = next(iter(found))
    if len(found) > 1 or max(one) > _LARGEST_SIDE:
        return USUAL_SIDE, USUAL_SIDE
    return one


def _named(bad: Sequence[ScannedImage]) -> str:
    named = [f"{shown(each.entry.path)} ({each.problem})" for each in bad[:_NAMED]]
    more = [f"and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
    return ", ".join([*named, *more])


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
            root, ", ".join(listing.empty),
        )  # fmt: skip
    for split, part in parts.items():
        there = Counter(each.entry.label for each in part)
        if part and (lacking := [name for name in names if name not in there]):
            shown_names = ", ".join(lacking[:_NAMED])
            _log.warning(
                "The %s images in %s lack %d of %d classes: %s%s.",
                split, root, len(lacking), len(names), shown_names,
                " and others" if len(lacking) > _NAMED else "",
            )  # fmt: skip
