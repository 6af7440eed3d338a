"""Tables of the operations of a file, and of what could be saved in it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table

# Longer lists show one row for each run of operations of one layer.
LONG = 60
_MOST_NAMES = 4
_SUMS = ("binary_macs", "float_macs", "int8_macs", "weight_bytes", "activation_bytes")


def by_layer(operations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joins neighbours of one layer: operations in a row, work in sum, last output."""
    joined = []
    for _, group in groupby(operations, key=lambda row: row["layer"]):
        rows = list(group)
        kinds = {row["kind"] for row in rows} - {"shape"}
        joined.append(
            {
                **rows[-1],
                "op": ", ".join(row["op"] for row in rows),
                "index": rows[0]["index"],
                "joined": [row["index"] for row in rows],
                "reads": sorted({index for row in rows for index in row["reads"]}),
                "kind": kinds.pop() if len(kinds) == 1 else "mixed",
                **{key: sum(row[key] for row in rows) for key in _SUMS},
            }
        )
    return joined


def operation_table(operations: Sequence[dict[str, Any]]) -> Table:
    """Shows one row per operation, or per layer where there are many."""
    long = len(operations) > LONG
    table = Table(title="layers" if long else "operations", title_justify="left")
    table.box = box.SIMPLE_HEAD  # without lines between columns, names need no cuts
    table.add_column("#", justify="right")
    table.add_column("layer", no_wrap=True)
    table.add_column("operation")
    table.add_column("output", no_wrap=True)
    for name in ("MACs", "weights", "written"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in by_layer(operations) if long else operations:
        macs = row["binary_macs"] or row["float_macs"] or row["int8_macs"]
        table.add_row(
            str(row["index"]),
            row["layer"],
            row["op"] if long else described(row),
            shown_output(row),
            shown_macs(macs),
            shown_bytes(row["weight_bytes"]),
            shown_bytes(row["activation_bytes"]),
            style=None if row["kind"] == "binary" else "dim",
        )
    return table


def savings_table(savings: Sequence[dict[str, Any]]) -> list[Table]:
    """Shows what could be saved, if anything."""
    if not savings:
        return []
    table = Table(title="what could be saved", title_justify="left", show_lines=True)
    for name in ("layers", "finding", "remedy"):
        table.add_column(name)
    for saving in savings:
        names = short_list(saving["layers"])
        table.add_row(names, saving["finding"], saving["remedy"])
    return [table]


def short_list(names: Sequence[str]) -> str:
    """Joins names; of many, the first few and their number."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - 3} more"


def shown_bytes(count: int) -> str:
    """Returns `"1.5 kB"`, or nothing for 0."""
    if count < 1000:
        return f"{count} B" if count else ""
    return f"{count / 1e3:,.1f} kB"


def shown_macs(count: int) -> str:
    """Returns `"1.50 M"`, or nothing for 0."""
    if count < 10_000:
        return f"{count:,}" if count else ""
    return f"{count / 1e6:,.2f} M"


def shown_output(row: dict[str, Any]) -> str:
    """Returns `"8x8x64 bits"` or `"8x8x64 f32"`."""
    if row["output_shape"] is None:
        return ""
    size = "x".join(map(str, row["output_shape"][1:] or row["output_shape"] or "1"))
    return f"{size} {row['output_type'].replace('float', 'f')}"


def described(row: dict[str, Any]) -> str:
    """Returns `"LceBconv2d stride 2, zero padding, relu"`."""
    parts = []
    if row["strides"] and row["strides"] != [1, 1]:
        parts.append(f"stride {'x'.join(map(str, dict.fromkeys(row['strides'])))}")
    if row["op"] == "LceBconv2d":
        parts.append("valid" if row["padding"] == "valid" else f"{row['padding']}-pad")
    if row["fused_activation"]:
        parts.append(row["fused_activation"])
    return f"{row['op']} ({', '.join(parts)})" if parts else row["op"]
