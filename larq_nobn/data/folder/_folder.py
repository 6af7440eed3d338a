"""A folder of images as a data set: its splits, classes, images, statistics."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from ..._names import SPLITS
from .._registry import DatasetInfo
from .._source import LazyImages, statistics
from ._decode import image_of, read_image
from ._listing import Listing, read_listing
from ._scan import Notes, ScannedImage, Seen, divided, scan

_log = logging.getLogger("larq_nobn")
# Of images of different sizes, or of large ones.
USUAL_SIDE = 96
_LARGEST_SIDE = 224
_NAMED = 5


@dataclass(frozen=True, eq=False)  # two are the same if they are one object
class Folder:
    """A folder whose files have all been opened once.

    Arguments:
        root: The folder.
        fingerprint: Of its list of files.
        train: Readable images to train with.
        validation: Readable images to choose settings with; may be none.
        test: Readable images to test with.
        class_names: Names of all folders with readable images, sorted.
    """

    root: Path
    fingerprint: str
    train: tuple[ScannedImage, ...]
    validation: tuple[ScannedImage, ...]
    test: tuple[ScannedImage, ...]
    class_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The path."""
        return str(self.root)

    def part(self, split: str) -> tuple[ScannedImage, ...]:
        """The images of a split."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return parts[split]

    @property
    def content(self) -> str:
        """A digest of what the images show, in their order, and what they are for."""
        parts = ((split, self.part(split)) for split in SPLITS)
        lines = [f"{s} {p.digest} {p.entry.label!r}" for s, part in parts for p in part]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def shape(self, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """Height, width and channels; without a size, those that suit the images."""
        pictures = (*self.train, *self.validation, *self.test)
        channels = 1 if all(each.grey for each in pictures) else 3
        size = size or suitable((each.height, each.width) for each in pictures)
        return (*size, channels)

    def info(self, size: tuple[int, int] | None = None) -> DatasetInfo:
        """What `describe` says."""
        shape = self.shape(size)
        mean, std = _statistics(self, shape)
        return DatasetInfo(
            name=str(self.root),
            image_shape=shape,
            classes=len(self.class_names),
            class_names=self.class_names,
            train_examples=len(self.train),
            test_examples=len(self.test),
            mean=mean,
            std=std,
            validation_examples=len(self.validation),
        )

    def source(
        self, split: str, shape: tuple[int, int, int], crop: float = 1.0
    ) -> LazyImages:
        """The images of a split: bytes to train with, exact means to test with."""
        return _source(self, split, shape, crop)


@functools.lru_cache(maxsize=8)
def _statistics(folder: Folder, shape: tuple[int, int, int]) -> tuple[tuple, tuple]:
    """Those of the training images, found out once."""
    digests = "".join(each.digest for each in folder.train)
    key = f"{shape} {hashlib.sha256(digests.encode()).hexdigest()}"
    notes = Notes(folder.root)
    found = notes.statistics(key)
    if found is None:
        found = statistics(folder.source("train", shape))
        notes.note_statistics(key, found)
    return tuple(found[0]), tuple(found[1])


def open_folder(
    root: Path,
    holdout: float,
    skip_unreadable: bool,
    validation: float = 0.0,
    seen: Seen | None = None,
) -> Folder:
    """Opens a folder; what is known of it is not looked for again.

    Arguments:
        root: The folder.
        holdout: Share of the images that are for testing, where folders do not say.
        skip_unreadable: Whether to go on without files that cannot be read.
        validation: Fraction of the training images that are for validation, where no
            folder is.
        seen: Told how many files of how many are known.

    Raises:
        FileNotFoundError, NotADirectoryError: If there is no such folder.
        ValueError: If it does not hold images of two classes to train with and one to
            test with, or files that cannot be read; or has a validation split, of which
            a fraction is asked for too.
    """
    listing = read_listing(root)
    if validation and any(each.split == "validation" for each in listing.entries):
        raise ValueError(
            f"{root} contains a validation split, so validation={validation} does not "
            "apply. Leave it out (--validation)."
        )
    once = _Once(listing, seen)
    return _opened(once, listing.fingerprint, holdout, skip_unreadable, validation)


class _Once:
    """A listing that is the same as any other of its folder, for a cache."""

    def __init__(self, listing: Listing, seen: Seen | None) -> None:
        self.listing, self.seen = listing, seen

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and other.listing.root == self.listing.root

    def __hash__(self) -> int:
        return hash(self.listing.root)


@functools.lru_cache(maxsize=8)
def _opened(
    once: _Once,
    fingerprint: str,
    holdout: float,
    skip_unreadable: bool,
    validation: float,
) -> Folder:
    listing = once.listing
    pictures = scan(listing, Notes(listing.root), once.seen)
    good = [each for each in pictures if each.problem is None]
    bad = [each for each in pictures if each.problem is not None]
    if bad and not skip_unreadable:
        raise ValueError(refusal(listing.root, bad, len(pictures)))
    if bad:
        _log.warning(
            "%d of %d files in %s are left out, because they cannot be read: %s.",
            len(bad), len(pictures), listing.root, _named(bad),
        )  # fmt: skip
    parts = divided(good, holdout, validation)
    names = tuple(sorted({each.entry.label for each in good}))
    _check(listing, parts, names, holdout)
    train, held, test = (tuple(parts[split]) for split in SPLITS)
    return Folder(listing.root, fingerprint, train, held, test, names)


def suitable(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of images: their own if they agree, or 96x96."""
    found = set(sizes)
    one = next(iter(found))
    if len(found) > 1 or max(one) > _LARGEST_SIDE:
        return USUAL_SIDE, USUAL_SIDE
    return one


def refusal(root: Path, bad: Sequence[ScannedImage], count: int) -> str:
    """Says which files cannot be read, and what to do."""
    return (
        f"{len(bad)} of {count} files in {root} cannot be read: {_named(bad)}. Mend or "
        "remove them, or go on without by --skip-unreadable (skip_unreadable=True)."
    )


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
        raise ValueError(
            f"{root} holds images of {len(names)} class{'' if names else 'es'}"
            f"{''.join(f' ({name})' for name in names)}, but a classifier needs two or "
            "more. Put those of each class into a folder of its own."
        )
    if not parts["train"] and holdout < 1:
        raise ValueError(
            f"None of the images in {root} is for training. Add some, or lower the "
            f"holdout={holdout}."
        )
    if not parts["test"] and holdout > 0:
        raise ValueError(
            f"None of the images in {root} is for testing. Add some, or raise the "
            f"holdout={holdout}."
        )
    for remark in listing.remarks:
        _log.warning("Of %s, %s.", root, remark)
    if listing.empty:
        _log.warning(
            "%s holds no image of %s, which is left out of the classes.",
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


@functools.lru_cache(maxsize=4)
def _source(
    folder: Folder, split: str, shape: tuple[int, int, int], crop: float
) -> LazyImages:
    """The second call in a process returns the same images."""
    part = folder.part(split)
    places = [folder.root / each.entry.path for each in part]
    exact = split != "train"
    as_they_are = crop == 1 and all(
        (each.height, each.width) == shape[:2] and (shape[2] == 3 or each.grey)
        for each in part
    )
    number = {name: place for place, name in enumerate(folder.class_names)}
    labels = np.array([number[each.entry.label] for each in part], np.int64)

    def read(index: int) -> np.ndarray:
        path = places[index]
        try:
            return image_of(read_image(path), shape, exact and not as_they_are, crop)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise OSError(
                f"{path} cannot be read any more ({why}). Put it back as it was, or "
                f"look {folder.root} over by larq-nobn data."
            ) from error

    dtype = "float32" if exact and not as_they_are else "uint8"
    with tf.device("CPU:0"):
        return LazyImages(read, tf.constant(labels), shape, dtype)
