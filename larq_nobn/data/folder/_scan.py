"""Every file of a folder, opened once: what it holds, and in which split it is.

What is found out is remembered in the user's cache folder, never in the folder itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._files import cache_folder, replacing
from ..._progress import step
from ._decode import decode, format_of, read_image
from ._listing import Entry, Listing

Seen = Callable[[int, int], object]


@dataclass(frozen=True)
class ScannedImage:
    """A file that was opened.

    Arguments:
        entry: Where it is, and of which class.
        digest: SHA-256 of its content; of an unreadable one the empty text.
        height: Of the upright image.
        width: Of the upright image.
        grey: Whether it has no colours.
        format: `"JPEG"` and so on.
        problem: Why it cannot be read; None if it can.
    """

    entry: Entry
    digest: str
    height: int
    width: int
    grey: bool
    format: str
    problem: str | None


def scan(
    listing: Listing, notes: Notes, seen: Seen | None = None
) -> list[ScannedImage]:
    """Opens the files that were changed since the last time, several at once.

    Arguments:
        listing: The files.
        notes: What is remembered of them, and will be of these; also of those that were
            opened before an interruption.
        seen: Told how many files of how many are known.
    """
    known = [notes.of_file(each) for each in listing.entries]
    missing = [place for place, found in enumerate(known) if found is None]
    done = len(known) - len(missing)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            entries = [listing.entries[place] for place in missing]
            results = pool.map(lambda each: _opened(listing.root, each), entries)
            try:
                for place, found in zip(missing, results, strict=True):
                    known[place] = found
                    notes.note_file(listing.entries[place], found)
                    done += 1
                    step("Opening images", done, len(known))
                    if seen is not None:
                        seen(done, len(known))
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


def _opened(root: Path, entry: Entry) -> tuple:
    try:
        content = read_image(root / entry.path)
        pixels = decode(content)
        height, width, channels = pixels.shape
        digest = hashlib.sha256(content).hexdigest()
        return digest, height, width, channels == 1, format_of(content), None
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        return "", 0, 0, False, "", reason
    except ValueError as problem:
        return "", 0, 0, False, "", str(problem)


_VERSION = 1


class Notes:
    """A file in the user's cache folder; without it, all is found out again.

    Arguments:
        root: The folder of images.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
        self._target = cache_folder() / "folders" / f"{name}.json"
        self._files: dict[str, list] = {}
        self._statistics: dict[str, list] = {}
        with contextlib.suppress(
            OSError, ValueError, KeyError, TypeError, RecursionError
        ):
            found = json.loads(self._target.read_text(encoding="utf-8"))
            if found["version"] == _VERSION:
                self._files = dict(found["files"])
                self._statistics = dict(found["statistics"])

    def of_file(self, entry: Entry) -> tuple | None:
        """What was found in a file, unless it has changed since, or was unreadable."""
        noted = self._files.get(entry.path)
        if not isinstance(noted, list) or noted[:2] != [entry.size, entry.changed]:
            return None
        return None if noted[-1] is not None else tuple(noted[2:])

    def note_file(self, entry: Entry, found: tuple) -> None:
        """Remembers what was found in a file."""
        self._files[entry.path] = [entry.size, entry.changed, *found]

    def statistics(self, key: str) -> Any:
        """What was noted under a key; None if nothing was."""
        return self._statistics.get(key)

    def note_statistics(self, key: str, values: Any) -> None:
        """Remembers numbers under a key."""
        self._statistics[key] = values
        self.keep()

    def keep(self) -> None:
        """Writes all of it, if there is a place for it."""
        content = {
            "version": _VERSION,
            "files": self._files,
            "statistics": self._statistics,
        }
        with contextlib.suppress(OSError):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._target) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")


_HEX_DIGITS = 16


def divided(
    images: Sequence[ScannedImage], holdout: float, validation: float = 0.0
) -> dict[str, list[ScannedImage]]:
    """Puts images into splits: as their folder says, or by what they hold.

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
