"""Tables as text, for `print`, and what a terminal is shown of names."""

from __future__ import annotations

import io
import unicodedata

from rich.console import Console
from rich.table import Table

# Categories of Unicode: codes of a terminal, halves of characters, other ends of lines.
_OBEYED = ("Cc", "Cs", "Zl", "Zp")
# These turn the direction of what comes after them.
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str) -> str:
    """Returns a text of which a terminal obeys no part but tabs and new lines."""
    return "".join(map(_shown, text))


def _shown(each: str) -> str:
    obeyed = unicodedata.category(each) in _OBEYED or each in _TURNING
    return ascii(each)[1:-1] if obeyed and each not in "\n\t" else each


def as_text(table: Table) -> str:
    """Renders a table at the width of a page."""
    # A notebook would get it twice, as a page and with codes of a terminal.
    console = Console(file=io.StringIO(), width=100, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
