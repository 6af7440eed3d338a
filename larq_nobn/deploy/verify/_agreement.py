"""Measures how far two forms of a network agree from end to end.

This is information only: one sign within rounding of 0 may change all that follows. The
comparison segment by segment is what proves a conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _segments

# Below these fractions a warning follows: of examples that are equal within tolerance,
# and of examples with the same top class.
EXACT, TOP1 = 0.9, 0.99
# A smaller fraction of ties among a layer's signs occurs by chance in any network.
_SHARE = 1e-3
_MOST = 3


def agreement(
    reference: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    tolerance: float,
    segments: _segments.Segments,
) -> dict[str, Any]:
    """Returns how far the outputs of two forms agree, as plain JSON types.

    Their comparison by segments has found no fault. So in examples that differ by more
    than `tolerance`, rounding has decided a sign.
    """
    pairs = zip(reference, other, strict=True)
    worst = [differences(*pair) for pair in pairs]
    absolute, relative = (np.max(each, axis=0) for each in zip(*worst, strict=True))
    examples = len(relative)
    # `not <=` rather than `>`: a NaN differs.
    differing = int((~(relative <= tolerance)).sum())
    return {
        "examples": examples,
        "exact_share": 1 - differing / examples,
        "explained": differing,
        "unexplained": 0,
        "worst_abs": float(absolute.max()),
        "worst_rel": float(relative.max()),
        "top1_agreement": top1_agreement(reference, other),
        "ties": segments.ties,
        "segments": segments.to_dict(),
    }


def differences(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the largest difference of each example, absolute and relative.

    Relative differences are divided by the example's largest number, or by the median
    of all examples' largest numbers if that is greater.
    """
    first, second = (np.reshape(y, (len(y), -1)) for y in (first, second))
    worst = np.abs(first.astype(np.float64) - second).max(axis=1)
    magnitude = np.abs(first).max(axis=1)
    magnitude = np.maximum(magnitude, np.median(magnitude))
    return worst, worst / np.where(magnitude > 0, magnitude, 1.0)


def top1_agreement(
    reference: Sequence[np.ndarray], other: Sequence[np.ndarray]
) -> float:
    """Returns the fraction of examples with the same largest class in every output.

    Outputs of another shape than (examples, classes) count only if there are no others,
    and then at every position.
    """
    pairs = list(zip(reference, other, strict=True))
    scores = [p for p in pairs if p[0].ndim == 2 and p[0].shape[1] > 1] or pairs
    same = [_top1(first) == _top1(second) for first, second in scores]
    return float(np.min([part.mean(axis=1) for part in same], axis=0).mean())


def _top1(output: np.ndarray) -> np.ndarray:
    classes = output.shape[-1] if output.ndim > 1 else 1
    return np.argmax(output.reshape(len(output), -1, classes), axis=-1)


def tie_warnings(prepared: dict[str, Any], file: dict[str, Any]) -> list[str]:
    """Returns a warning for each comparison in which rounding decides too much."""
    warnings = []
    for names, part in (
        ("the optimized form of the model and the given one", prepared),
        ("the file and the optimized form of the model", file),
    ):
        ties = [row for row in part.get("ties", ()) if row["share"] >= _SHARE]
        differ = part["top1_agreement"] < TOP1
        said = (
            f"of {part['examples']} examples, {names} compute the "
            f"same in {part['exact_share']:.1%}, and have the same top class in "
            f"{part['top1_agreement']:.1%}."
        )
        if not ties and differ:
            warnings.append(f"Small differences decide outputs: {said}")
        if ties and (differ or part["exact_share"] < EXACT):
            rows = [f"layer {x['layer']!r} ({x['share']:.2%} of them)" for x in ties]
            if len(rows) > _MOST:
                rows = [*rows[:_MOST], f"{len(rows) - _MOST} more"]
            *first, last = rows
            listed = f"{', '.join(first)} and {last}" if first else last
            warnings.append(
                f"Rounding decides signs: {said} Inputs that should be 0 stand before "
                f"the sign of {listed}. Give these signs a shift (input_quantizer="
                "'rsign'), or the layers before them a bias or batch norm; or evaluate "
                "and train on deploy.prepared(model), which computes what the file "
                "computes."
            )
    return warnings
