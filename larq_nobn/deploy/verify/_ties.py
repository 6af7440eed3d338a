"""Says where rounding decides so many signs that file and model part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Less than this is worth a word: the fraction of examples that are equal within
# tolerance, and of those with the same top class.
EXACT, TOP1 = 0.9, 0.99
# Of the signs of a layer: fewer are 0 but for rounding by chance, as in any network.
_SHARE = 1e-3
_MOST = 3


def tie_warnings(prepared: dict[str, Any], file: dict[str, Any]) -> list[str]:
    """Returns a sentence or two for each comparison that rounding decides too much of.

    Arguments:
        prepared: How the given model agrees with the optimized one.
        file: How that agrees with the file.
    """
    pairs = (
        ("the optimized form of the model and the given one", prepared),
        ("the file and the optimized form of the model", file),
    )
    return [text for names, part in pairs if (text := _message(names, part))]


def _message(names: str, part: dict[str, Any]) -> str:
    ties = [row for row in part.get("ties", ()) if row["share"] >= _SHARE]
    if part["top1_agreement"] >= TOP1 and not (ties and part["exact_share"] < EXACT):
        return ""
    said = (
        f"of {part['examples']} examples, {names} compute the "
        f"same in {part['exact_share']:.1%}, and have the same top class in "
        f"{part['top1_agreement']:.1%}."
    )
    if not ties:
        return f"Small differences decide outputs: {said}"
    return (
        f"Rounding decides signs: {said} Inputs that should be 0 stand before the "
        f"sign of {_named(ties)}. Give these signs a shift (input_quantizer="
        "'rsign'), or the layers before them a bias or batch norm; or evaluate "
        "and train on deploy.prepared(model), which computes what the file computes."
    )


def _named(ties: Sequence[dict[str, Any]]) -> str:
    said = [f"layer {row['layer']!r} ({row['share']:.2%} of them)" for row in ties]
    more = [f"{len(said) - _MOST} more"] if len(said) > _MOST else []
    *first, last = said[:_MOST] + more
    return f"{', '.join(first)} and {last}" if first else last
