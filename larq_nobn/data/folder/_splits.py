"""Which pictures are for training, and which for testing."""

from __future__ import annotations

from collections.abc import Sequence

from ._scan import Picture

_HEX_DIGITS = 16


def divided(
    pictures: Sequence[Picture], holdout: float, validation: float = 0.0
) -> dict[str, list[Picture]]:
    """Puts pictures into splits: as their folder says, or by what they hold.

    Equal files have equal digests, and so are never in two splits, and a file stays in
    its split when others come or go.
    """
    parts: dict[str, list[Picture]] = {"train": [], "validation": [], "test": []}
    for each in pictures:
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
