"""How large the files of networks are, measured by converting them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from .._tables import as_text

_FILE = Path(__file__).parent / "sizes.json"
# Kilobytes of flash of usual boards, and as many of memory.
_BOARDS = (256, 512, 1024, 2048)


def fitting_board(flash_bytes: int, memory_bytes: int) -> str:
    """Returns the flash (and memory) of the smallest board that fits, or "none"."""
    most = max(flash_bytes, memory_bytes) / 1024
    return next((f"{size:,} kB" for size in _BOARDS if most <= size), "none")


@dataclass(frozen=True)
class FileSize:
    """What a network's file takes of a device.

    Attributes:
        network: A trained network (`models.pretrained()`), or a builder and its width.
        input_shape: (height, width, channels).
        runtime: `"c"`, `"micro"`, `"litert"` (in int8) or `"lce"`.
        flash_bytes: Constants of a C file, or the size of a `.tflite` file.
        memory_bytes: Memory of a run: of a C file all, of a file for Micro what it took
            of the arena on a computer, of others that of feature maps, to which the
            interpreter adds its own.
    """

    network: str
    input_shape: tuple[int, int, int]
    runtime: str
    flash_bytes: int
    memory_bytes: int


class FileSizes(list[FileSize]):
    """A list of sizes of files that prints as a table."""

    def table(self) -> Table:
        """Returns flash and memory, a row per file, and the board that it fits."""
        table = Table("Network", "Input", "Runtime")
        for name in ("Flash", "Memory", "Board"):
            table.add_column(name, justify="right")
        for row in self:
            sides = "x".join(map(str, row.input_shape))
            sizes = (
                f"{size / 1024:,.0f} kB" for size in (row.flash_bytes, row.memory_bytes)
            )
            board = fitting_board(row.flash_bytes, row.memory_bytes)
            board = board if row.runtime in ("c", "micro") else ""
            table.add_row(row.network, sides, row.runtime, *sizes, board)
        return table

    def __repr__(self) -> str:
        return as_text(self.table())


def file_sizes(flash: int | None = None, memory: int | None = None) -> FileSizes:
    """Lists networks whose files fit a device, the largest first.

    Trained networks and designs at usual widths and image sizes were converted for each
    runtime (`benchmarks/file_sizes.py`). Weights change no size, but for a few bytes.

    Arguments:
        flash: Most bytes of constants; None for any.
        memory: Most bytes of the memory of a run; None for any.

    Returns:
        A list of one `FileSize` for each file, which prints as a table.

    Example:
        ```python
        import larq_nobn as nobn

        print(nobn.models.file_sizes(flash=256 * 1024, memory=256 * 1024))
        ```
    """
    rows: Any = json.loads(_FILE.read_text(encoding="utf-8"))
    found = [FileSize(name, tuple(shape), *sizes) for name, shape, *sizes in rows]
    fitting = (
        row
        for row in found
        if row.flash_bytes <= (flash or row.flash_bytes)
        and row.memory_bytes <= (memory or row.memory_bytes)
    )
    return FileSizes(sorted(fitting, key=lambda row: -row.flash_bytes))
