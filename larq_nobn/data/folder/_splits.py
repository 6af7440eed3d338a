"""Which pictures are for training, and which for testing."""

from __future__ import annotations

from collections.abc import Sequence

from ._scan import Picture

_HEX_DIGITS = 16


def divided(pictures: Sequence[Picture], holdout: float) -> dict[str, list[Picture]]:
    """Puts pictures into splits: as their folder says, or by what they hold.

    Equal files have equal digests, and so are never on both sides, and a file stays on
    its side when others come or go.
    """
    parts: dict[str, list[Picture]] = {"train": [], "test": []}
    for each in pictures:
        by_content = "test" if is_held_out(each.digest, holdout) else "train"
        parts[each.entry.split or by_content].append(each)
    return parts


def is_held_out(digest: str, holdout: float) -> bool:
    """Whether a file of some SHA-256 is one of a share that is for testing."""
    return int(digest[:_HEX_DIGITS], 16) / 16**_HEX_DIGITS < holdout
