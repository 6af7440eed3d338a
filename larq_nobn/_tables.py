"""Tables as text, for `print`, and what a terminal is shown of names."""

from __future__ import annotations

import io
import unicodedata

from rich.console import Console
from rich.table import Table

# Categories of Unicode: codes of a terminal, halves of characters, other ends of lines.
_OBEYED = ("Cc", "Cs", "Zl", "Zp")
# Longer than the path of a file that somebody has typed.
_LONGEST_WORD = 400
# These turn the direction of what comes after them.
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str) -> str:
    """Returns a text of which a terminal obeys no part but tabs and new lines."""
    return "".join(map(_shown, text))


def _shown(each: str) -> str:
    obeyed = unicodedata.category(each) in _OBEYED or each in _TURNING
    return ascii(each)[1:-1] if obeyed and each not in "\n\t" else each


def sentence(text: str, most: int = 2000) -> str:
    """Returns a message as one line, of which long parts miss the middle.

    Arguments:
        text: What was given, what is allowed, and what to do: a name in it may be of
            any length, and the last part is what is needed.
        most: How many letters it has at the most.
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
