"""What differs between two `.tflite` files."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from .._shown import Shown
from ._audit import Audit, audit, described, short_list

_NUMBERS = (
    *("size_bytes", "peak_activation_bytes", "lce_bconv2d", "bitpacked_outputs"),
    *("binary_macs", "float_macs", "int8_macs"),
)


@dataclass(frozen=True)
class Difference(Shown):
    """How one `.tflite` file differs from another.

    Attributes:
        path: The one file.
        against: The other.
        numbers: Sizes, MACs and counts of binary convolutions, named as in `Audit`:
            `{"path", "against", "difference"}`, the last being the first minus the
            second.
        ops: The same for the count of every operation: `{"op", "kind", "path",
            "against", "difference"}`.
        only_in_path: Layers that only the one file names.
        only_in_against: Layers that only the other names.
        changed_layers: Those that both name and compute with other operations:
            `{"layer", "path", "against"}`.
    """

    path: str
    against: str
    numbers: dict[str, dict[str, int]]
    ops: list[dict[str, Any]]
    only_in_path: list[str]
    only_in_against: list[str]
    changed_layers: list[dict[str, Any]]

    def table(self) -> Table:
        """Returns the numbers and operations as a `rich` table."""
        table = Table(title=f"{self.path} against {self.against}", title_justify="left")
        table.add_column("")
        for name in ("this", "other", "difference"):
            table.add_column(name, justify="right")
        rows = [(name.replace("_", " "), row) for name, row in self.numbers.items()]
        rows += [(f"{row['kind']} {row['op']}", row) for row in self.ops]
        for name, row in rows:
            both = f"{row['path']:,}", f"{row['against']:,}"
            change = f"{row['difference']:+,}" if row["difference"] else ""
            table.add_row(name, *both, change)
        return table

    def layer_table(self) -> Table:
        """Returns the layers that differ as a `rich` table."""
        table = Table(title="layers that differ", title_justify="left")
        for name in ("layer", "this", "other"):
            table.add_column(name)
        for row in self.changed_layers:
            table.add_row(row["layer"], *(", ".join(row[k]) for k in _SIDES))
        if self.only_in_path:
            table.add_row(short_list(self.only_in_path), "yes", "no")
        if self.only_in_against:
            table.add_row(short_list(self.only_in_against), "no", "yes")
        return table

    def tables(self) -> list[Table]:
        """Returns all that there is to print."""
        layers = self.layer_table()
        return [self.table(), layers] if layers.row_count else [self.table()]


_SIDES = ("path", "against")


def diff(path: str | os.PathLike, against: str | os.PathLike) -> Difference:
    """Compares two `.tflite` files, operation by operation.

    Layers are told apart by the names that the converter left in a file; what several
    layers were fused into has the name of the last.

    Arguments:
        path: The one file.
        against: The other.

    Returns:
        A `Difference`.

    Raises:
        ConversionError: If a file is missing or is no intact TFLite file, or Larq
            Compute Engine is not installed.

    Example:
        ```python
        import larq_nobn as nobn

        for kind in ("nobn", "batch_norm"):
            model = nobn.models.ReActNet18((32, 32, 3), 10, kind, width=16)
            nobn.convert(model, f"{kind}.tflite")
        print(nobn.deploy.diff("nobn.tflite", "batch_norm.tflite"))
        ```
    """
    first, second = audit(path), audit(against)
    one, other = _by_layer(first), _by_layer(second)
    return Difference(
        path=first.path,
        against=second.path,
        numbers={
            name: _pair(getattr(first, name), getattr(second, name))
            for name in _NUMBERS
        },
        ops=_operations(first, second),
        only_in_path=[name for name in one if name not in other],
        only_in_against=[name for name in other if name not in one],
        changed_layers=[
            {"layer": name, "path": one[name], "against": other[name]}
            for name in one
            if name in other and one[name] != other[name]
        ],
    )


def _pair(first: int, second: int) -> dict[str, int]:
    return {"path": first, "against": second, "difference": first - second}


def _operations(first: Audit, second: Audit) -> list[dict[str, Any]]:
    one, other = (
        Counter((row["kind"], row["op"]) for row in found.operations)
        for found in (first, second)
    )
    return [
        {"op": op, "kind": kind, **_pair(one[kind, op], other[kind, op])}
        for kind, op in sorted(one | other)
    ]


def _by_layer(found: Audit) -> dict[str, list[str]]:
    layers: dict[str, list[str]] = {}
    for row in found.operations:
        layers.setdefault(row["layer"], []).append(described(row))
    return layers
