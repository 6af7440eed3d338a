"""Tables as text, for `print`, and messages of some length."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

# Longer than the path of a file that somebody has typed.
_LONGEST_WORD = 400


def sentence(text: str, most: int = 2000) -> str:
    """Returns a message as one line, of which long parts miss the middle.

    A name in it may be of any length, and the last part, what to do, is needed.
    """
    words = " ".join(_cut(word, _LONGEST_WORD) for word in text.split())
    return _cut(words, most)


def _cut(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def as_text(table: Table) -> str:
    """Renders a table at the width of a page."""
    # A notebook would get it twice, as a page and with codes of a terminal.
    console = Console(file=io.StringIO(), width=100, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
