"""Reads any LCE `.tflite` file: what is binary in it, what is not, how much of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from ..lite import Subgraph, damaged, is_lite, read, read_file
from ._chain import Chain
from ._diagram import draw
from ._findings import Findings
from ._operation_tables import operation_table, savings_table
from ._savings import savings
from ._stayed_float import binary_in_model
from ._work import Layers, peak_activation_bytes, rows


@dataclass(frozen=True, kw_only=True)
class Audit(Findings):
    """What an LCE `.tflite` file holds.

    Multiply-accumulates (MACs) are those of one run of the file, on as many examples as
    it takes at once; a size that only a running file knows counts as 1.

    Attributes:
        path: The file.
        size_bytes: Its size.
        lce_bconv2d: Binary convolutions.
        float_ops: What computes in float and does more than rename axes:
            `{"op", "count", "layers"}`, the most frequent first.
        int8_ops: The same for what computes in integers of 8 or 16 bits.
        binary_macs: MACs of the binary convolutions.
        float_macs: Those of float convolutions and matrix products.
        int8_macs: Those of convolutions and matrix products in integers.
        ops: Every operation with its count, custom operations included.
        bitpacked_outputs: How many binary convolutions hand on bits, not floats.
        peak_activation_bytes: The most bytes of feature maps that exist at one time if
            operations run in the order of the file; what the interpreter needs for
            itself comes on top.
        operations: Every operation in the order of the file: `index, op, kind`
            (`"binary"`, `"float"`, `"int8"`, or `"shape"` for renamed axes and
            arithmetic on sizes), `layer, output_shape` (of bits: in channels),
            `output_type` (`"bits"` if packed), `binary_macs, float_macs, int8_macs,
            weight_bytes` (constants that no earlier operation holds),
            `activation_bytes` (what it writes), `reads_bits, writes_bits,
            fused_activation, padding` (`"valid"`, `"same"`; of binary convolutions
            `"one"` or `"zero"`), `strides` and `reads` (the indices of the operations
            whose outputs it reads).
        savings: What could still be saved, and how: `{"layers", "finding", "remedy"}`.
        in_float: What is binary in the model and float in the file, as far as the
            file shows it: `layer, kind` (its operation), `finding, remedy, macs, bytes`
            (of its kernel).
    """

    ops: dict[str, int]
    bitpacked_outputs: int
    peak_activation_bytes: int
    operations: list[dict[str, Any]]
    savings: list[dict[str, Any]]

    def table(self) -> Table:
        """Returns the summary as a `rich` table."""
        table = super().table()
        peak = f"{self.peak_activation_bytes / 1e3:,.1f} kB"
        table.add_row("feature maps at one time", peak)
        return table

    def _binary(self) -> str:
        return f"{self.lce_bconv2d}, of which {self.bitpacked_outputs} hand on bits"

    def tables(self) -> list[Table]:
        """Returns the summary, what could be saved, and the operations."""
        return [
            self.table(),
            *savings_table(self.savings),
            operation_table(self.operations),
        ]

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the chain of operations, with their share of the work, as a PNG file.

        Raises:
            ConversionError: If matplotlib is missing.
            OSError: If `path` cannot be written.
        """
        title = (
            f"{self.path}: {self.size_bytes / 1e3:,.1f} kB, {self.lce_bconv2d} binary "
            f"convolutions, {self.binary_macs / 1e6:,.2f} M binary and "
            f"{(self.float_macs + self.int8_macs) / 1e6:,.2f} M other MACs"
        )
        draw(self.operations, title, path)


def audit(path: str | os.PathLike) -> Audit:
    """Reads an LCE `.tflite` file, whoever wrote it.

    Layer names are those that the converter left in the names of tensors. What several
    layers were fused into has the name of the last of them. The file's last
    operation has lost its own and is listed as `"output"`, others without as
    `"unknown"`.

    Arguments:
        path: The file.

    Returns:
        An `Audit`.

    Raises:
        ConversionError: If the file is missing or is no intact TFLite file, or Larq
            Compute Engine is not installed.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        nobn.convert(model, "model.tflite")
        nobn.audit("model.tflite").lce_bconv2d  # 16
        ```
    """
    content = read_file(path, is_lite)  # what is none may be of any length
    return audit_bytes(content, os.fspath(path))


def audit_bytes(content: bytes, path: str, ends: Sequence[str] = ()) -> Audit:
    """Audits the content of a file; `ends` are the layers of its outputs, if known."""
    return audit_graphs(read(content, path), len(content), path, ends)


def audit_graphs(
    graphs: list[Subgraph], size: int, path: str, ends: Sequence[str]
) -> Audit:
    """Audits what a file of `size` bytes holds."""
    try:
        return _audit(graphs, size, path, ends)
    except Exception as error:  # what makes no sense, such as a filter without shape
        raise damaged(path) from error


def _audit(graphs: list[Subgraph], size: int, path: str, ends: Sequence[str]) -> Audit:
    layers = [Layers(graphs[0], ends), *map(Layers, graphs[1:])]
    found = rows(graphs, layers)
    return Audit(
        path=path,
        size_bytes=size,
        ops=dict(Counter(row["op"] for row in found).most_common()),
        lce_bconv2d=sum(row["op"] == "LceBconv2d" for row in found),
        bitpacked_outputs=sum(
            row["op"] == "LceBconv2d" and row["writes_bits"] for row in found
        ),
        float_ops=_by_frequency(found, "float"),
        int8_ops=_by_frequency(found, "int8"),
        binary_macs=sum(row["binary_macs"] for row in found),
        float_macs=sum(row["float_macs"] for row in found),
        int8_macs=sum(row["int8_macs"] for row in found),
        peak_activation_bytes=peak_activation_bytes(graphs[0]),
        operations=found,
        savings=savings(graphs, layers),
        in_float=[
            row
            for pair in zip(graphs, layers, strict=True)
            for row in binary_in_model(Chain(*pair))
        ],
    )


def _by_frequency(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    layers: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] == kind:
            layers.setdefault(row["op"], []).append(row["layer"])
    ranked = sorted(layers.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"op": op, "count": len(names), "layers": names} for op, names in ranked]
