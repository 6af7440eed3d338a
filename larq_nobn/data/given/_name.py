"""What the images that a caller hands over are called."""

from __future__ import annotations

GIVEN = "given"


def class_names_of(classes: int) -> tuple[str, ...]:
    """Their numbers, if there are enough."""
    if classes < 2:
        raise ValueError(
            "data holds labels of one class only, but a classifier needs two or more."
        )
    return tuple(map(str, range(classes)))
