"""Factors of variables by patterns in their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._checks import check_number
from ._arguments import check_patterns
from ._unit_axes import first_match


def check_multipliers(multipliers: Mapping[str, float]) -> dict[str, float]:
    """Returns `multipliers` as a dictionary if it leads from patterns to factors."""
    if not isinstance(multipliers, Mapping):
        raise TypeError(
            f"multipliers={multipliers!r} is no mapping from regular expressions to "
            'factors. Write one, such as {"^gain:0$": 4.0}.'
        )
    check_patterns("multipliers", multipliers)
    advice = "Use 0 to freeze, 1 for no change, 4 for four times the learning rate."
    return {
        pattern: check_number(f"multipliers[{pattern!r}]", factor, "[0, inf)", advice)
        for pattern, factor in multipliers.items()
    }


def factors_by_name(
    multipliers: Mapping[str, float], names: Sequence[str]
) -> list[float]:
    """Returns the factor of each variable: that of the first pattern in its name, or 1.

    Arguments:
        multipliers: `{regular expression: factor}`, tried in this order.
        names: Names of the variables.

    Raises:
        ValueError: If a pattern is in no name.
    """
    for pattern in multipliers:
        if not any(_matches(pattern, name) for name in names):
            raise ValueError(
                f"The pattern {pattern!r} in multipliers matches none of the "
                f"{len(names)} variables, such as {', '.join(names[:6])}. Correct the "
                "pattern, or leave it out."
            )
    return [
        next((f for p, f in multipliers.items() if _matches(p, name)), 1.0)
        for name in names
    ]


def names_in_full(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns the `known` names if `names` are their ends, and otherwise `names`.

    Keras builds the layers of a reopened `.keras` file outside their name scopes, so
    that `conv/kernel:0` may come back as `kernel:0`.
    """
    ends = len(names) == len(known) and all(
        f"/{full}".endswith(f"/{name}") for full, name in zip(known, names, strict=True)
    )
    return list(known if ends else names)


def _matches(pattern: str, name: str) -> bool:
    return first_match([pattern], name) is not None
