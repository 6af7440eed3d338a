"""A folder of images as a data set: its splits, classes, images, statistics."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from ..._names import SPLITS
from .._images import Images, Shape, once
from .._source import LazyImages
from ._decode import image_of, read_image
from ._listing import Listing, read_listing
from ._scan import Notes, ScannedImage, divided, scan

_log = logging.getLogger("larq_nobn")
# Of images of different sizes, or of large ones.
USUAL_SIDE = 96
_LARGEST_SIDE = 224
_NAMED = 5


class Folder(Images):
    """A folder whose files have all been opened once.

    Arguments:
        root: The folder.
        parts: Readable images by split; those of validation may be none.
        class_names: Names of all folders with readable images, sorted.
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

    def shape(self, size: tuple[int, int] | None) -> Shape:
        """Height, width and channels; without a size, those that suit the images."""
        pictures = [each for part in self.parts.values() for each in part]
        channels = 1 if all(each.grey for each in pictures) else 3
        size = size or suitable((each.height, each.width) for each in pictures)
        return (*size, channels)

    def count(self, split: str, shape: Shape) -> int:
        """Number of images in a split."""
        return len(self.parts[split])

    def statistics(self, shape: Shape) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Those of the training images, which are noted in the cache folder."""
        digests = "".join(each.digest for each in self.parts["train"])
        key = f"{shape} {hashlib.sha256(digests.encode()).hexdigest()}"
        notes = Notes(self.root)
        if (found := notes.statistics(key)) is None:
            found = super().statistics(shape)
            notes.note_statistics(key, found)
        return tuple(found[0]), tuple(found[1])

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
                return image_of(read_image(path), shape, exact, crop)
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
    """Opens a folder; what is known of it is not looked for again.

    Arguments:
        root: The folder.
        holdout: Share of the images that are for testing, where folders do not say.
        skip_unreadable: Whether to go on without files that cannot be read.
        validation: Fraction of the training images that are for validation, where no
            folder is.

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
    return once(
        (root, listing.fingerprint, holdout, skip_unreadable, validation),
        lambda: _opened(listing, holdout, skip_unreadable, validation),
    )


def _opened(
    listing: Listing, holdout: float, skip_unreadable: bool, validation: float
) -> Folder:
    pictures = scan(listing, Notes(listing.root))
    good = [each for each in pictures if each.problem is None]
    bad = [each for each in pictures if each.problem is not None]
    if bad and not skip_unreadable:
        raise ValueError(
            f"{len(bad)} of {len(pictures)} files in {listing.root} cannot be read: "
            f"{_named(bad)}. Mend or remove them, or go on without by "
            "--skip-unreadable (skip_unreadable=True)."
        )
    if bad:
        _log.warning(
            "%d of %d files in %s are left out, because they cannot be read: %s.",
            len(bad), len(pictures), listing.root, _named(bad),
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
