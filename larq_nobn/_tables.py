"""Renders tables and accuracies as text, and shortens long messages."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

# Longer than any path that a user types.
_LONGEST_WORD = 400
# With fewer examples an accuracy is printed with its interval, of 3 points or more.
FEW_EXAMPLES = 1_000
_Z = 1.959964  # of 95 % of a normal distribution


def sentence(text: str, most: int = 2000) -> str:
    """Returns a message as one line, without the middle of long words.

    Names in it may have any length, and its end, the remedy, must remain.
    """
    words = " ".join(_cut(word, _LONGEST_WORD) for word in text.split())
    return _cut(words, most)


def _cut(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def as_text(table: Table) -> str:
    """Renders a table at the width of a page."""
    # Otherwise a notebook would print it twice, as HTML and with terminal codes.
    console = Console(file=io.StringIO(), width=100, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def wilson_interval(accuracy: float, examples: int) -> tuple[float, float]:
    r"""Returns the 95 % confidence interval of an accuracy p on n examples.

    \[ \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n},
       \quad z = 1.96 \]

    References:
        E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
        Inference", Journal of the American Statistical Association 22, 1927.
    """
    squares = _Z * _Z / examples
    middle, whole = accuracy + squares / 2, 1 + squares
    half = (_Z * _Z * accuracy * (1 - accuracy) / examples + squares**2 / 4) ** 0.5
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def percent(share: float, examples: int | None = None) -> str:
    """Returns `"97.5 %"` for 0.975; of few examples with an interval."""
    said = f"{100 * share:.1f} %"
    if examples is None or examples >= FEW_EXAMPLES:
        return said
    low, high = (f"{100 * end:.1f}" for end in wilson_interval(share, examples))
    images = f"{examples} image{'s' * (examples != 1)}"
    return f"{said} of {images}, 95 % interval {low} to {high} %"
