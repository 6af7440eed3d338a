"""Tables as text, for `print`."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table


def as_text(table: Table) -> str:
    """Renders a table at the width of a page."""
    # A notebook would get it twice, as a page and with codes of a terminal.
    console = Console(file=io.StringIO(), width=100, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
