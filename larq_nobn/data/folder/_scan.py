"""Every file of a folder, opened once: what it holds, or why it cannot be read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ._decode import decode, format_of
from ._listing import Entry, Listing
from ._notes import Notes

Seen = Callable[[int, int], object]


@dataclass(frozen=True)
class Picture:
    """A file that was opened.

    Arguments:
        entry: Where it is, and of which class.
        digest: SHA-256 of its content; of an unreadable one the empty text.
        height: Of the upright picture.
        width: Of the upright picture.
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


def scan(listing: Listing, notes: Notes, seen: Seen | None = None) -> list[Picture]:
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
                    if seen is not None:
                        seen(done, len(known))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        if missing:
            notes.keep()
    return [
        Picture(entry, *found)
        for entry, found in zip(listing.entries, known, strict=True)
        if found is not None
    ]


def _opened(root: Path, entry: Entry) -> tuple:
    try:
        content = (root / entry.path).read_bytes()
        pixels = decode(content)
        height, width, channels = pixels.shape
        digest = hashlib.sha256(content).hexdigest()
        return digest, height, width, channels == 1, format_of(content), None
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        return "", 0, 0, False, "", reason
    except ValueError as problem:
        return "", 0, 0, False, "", str(problem)
