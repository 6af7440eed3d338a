"""C files on other processors: sizes, memory and instructions."""

from __future__ import annotations

from .markdown import coded, described


def boards(result):
    """What a network needs, and the instructions of an image on each board."""
    rows = coded(result["rows"])

    def kilobytes(key):
        return lambda row: f"{row[key] / 1e3:,.0f}"

    columns = {
        "constants, kB": kilobytes("constant_bytes"),
        "memory, kB": kilobytes("memory_bytes"),
    }
    for board in next(iter(rows.values()))["boards"]:
        columns[board] = lambda row, board=board: on_board(**row["boards"][board])
    return described(rows, columns, "network")


def on_board(flash_bytes, instructions):
    return f"{instructions / 1e6:,.1f} M, {flash_bytes / 1e3:,.0f} kB"


def c_kilobytes(result):
    """The constants of the trained network of width 16, in kB."""
    row = result["rows"]["reactnet18-w16-cifar10"]
    return f"{row['constant_bytes'] / 1e3:.0f}"
