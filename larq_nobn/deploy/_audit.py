"""Lists the contents of any `.tflite` file, what could be saved, and differences.

LCE binarizes plain 2D convolutions of signs with ±c. It silently computes similar
layers in float, which are found here, too.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table

from ..models._sizes import fitting_board
from ._binary_layers import Why, before_signs, filters_have_two_values, float_in_file
from ._errors import ConversionError
from ._shown import Shown
from .lite._compiled import is_c, read_info
from .lite._converter import quiet, runtime_with
from .lite._file import (
    OPERATION_KINDS,
    FileOperation,
    Subgraph,
    Tensor,
    parsing,
    read,
    read_file,
)
from .lite._lce_faults import missed_reach
from .lite._micro import DECODE, arena_bytes, resolver

_ACTIVATIONS = {1: "relu", 2: "relu1", 3: "relu6", 4: "tanh", 5: "sign"}
# Longer lists have one row for successive operations of one layer.
_LONG = 60
_RUNTIMES = {
    "lce": "lce: needs Larq Compute Engine",
    "litert": "litert: LiteRT, TensorFlow Lite Micro or Larq Compute Engine",
    "micro": "micro: TensorFlow Lite Micro",
    "c": "c: none, a C compiler makes it a part of the program",
}
_SUMS = ("binary_macs", "float_macs", "int8_macs", "weight_bytes", "activation_bytes")


@dataclass(frozen=True, kw_only=True)
class Findings(Shown):
    """The contents of a converted file, as audits and reports share them."""

    path: str
    size_bytes: int
    runtime: str
    lce_bconv2d: int
    float_ops: list[dict[str, Any]]
    binary_macs: int
    float_macs: int
    int8_ops: list[dict[str, Any]] = field(default_factory=list)
    int8_macs: int = 0
    in_float: list[dict[str, Any]] = field(default_factory=list)
    flash_bytes: int | None = None
    arena_bytes: int | None = None
    unpacked_bytes: int | None = None
    resolver: list[str] = field(default_factory=list)

    def board(self) -> str | None:
        """Returns the usual board that the file fits, "none", or None if unknown."""
        if self.flash_bytes is None or self.arena_bytes is None:
            return None
        return fitting_board(self.flash_bytes, self.arena_bytes)

    def table(self) -> Table:
        """Returns the findings as a `rich` table."""
        table = Table(title=self.path, title_justify="left", show_header=False)
        table.add_row("size", f"{self.size_bytes / 1e3:,.1f} kB")
        table.add_row("runtime", _RUNTIMES[self.runtime])
        if self.flash_bytes is not None:
            what = "file" if self.runtime == "micro" else "constants"
            table.add_row(f"{what}, in flash", f"{self.flash_bytes:,} bytes")
        if self.arena_bytes is not None:
            what = (
                "arena, in RAM" if self.runtime == "micro" else "memory of feature maps"
            )
            table.add_row(what, f"{self.arena_bytes:,} bytes")
        if board := self.board():
            both = "none of the usual ones" if board == "none" else f"{board} of both"
            table.add_row("board that it fits", both)
        if self.unpacked_bytes is not None:
            table.add_row("largest unpacked kernel", f"{self.unpacked_bytes:,} bytes")
        if self.resolver:
            table.add_row("operations to add", ", ".join(self.resolver))
        table.add_row("binary convolutions", self._binary())
        table.add_row("binary MACs", f"{self.binary_macs / 1e6:,.2f} M")
        table.add_row("float MACs", f"{self.float_macs / 1e6:,.2f} M")
        if self.int8_ops:
            table.add_row("int8 MACs", f"{self.int8_macs / 1e6:,.2f} M")
        for kind, ops in (("float", self.float_ops), ("int8", self.int8_ops)):
            for op in ops:
                layers = ", ".join(dict.fromkeys(op["layers"]))
                table.add_row(f"{kind} {op['op']}", f"{op['count']}: {layers}")
        for layer in self.in_float:
            cost = f"{layer['macs']:,} MACs, {layer['bytes']:,} bytes"
            value = f"{layer['layer']} ({layer['kind']}): {cost}"
            table.add_row("binary in the model, float in the file", value)
        return table

    def _binary(self) -> str:
        return str(self.lce_bconv2d)


@dataclass(frozen=True, kw_only=True)
class Audit(Findings):
    """The contents of a `.tflite` or `.c` file.

    Multiply-accumulates (MACs) are those of one run of the file, on its whole batch. A
    size that is unknown until the file runs counts as 1, and is None in
    `output_shape` and `open_inputs`.

    Attributes:
        path: The file.
        size_bytes: Its size in bytes.
        runtime: `"lce"` if it has operations of LCE, `"micro"` if it has kernels of one
            or two bits a weight for TensorFlow Lite Micro, else `"litert"`.
        lce_bconv2d: The number of LCE's binary convolutions, or of C's.
        float_ops: The operations that compute in float and do more than rename axes:
            `{"op", "count", "layers"}`, the most frequent first.
        int8_ops: The operations in integers of 8 or 16 bits, as `float_ops`.
        binary_macs: MACs of the binary convolutions.
        float_macs: MACs of float convolutions and matrix products.
        int8_macs: MACs of convolutions and matrix products in integers.
        ops: Every operation with its count, custom operations included.
        bitpacked_outputs: The number of binary convolutions that output bits.
        peak_activation_bytes: The most bytes of feature maps that exist at one time if
            operations run in the order of the file; what the interpreter needs for
            itself comes on top.
        operations: Every operation in the order of the file: `index, op, kind`
            (`"binary"`, `"float"`, `"int8"`, or `"shape"` for renamed axes,
            unpacked constants and arithmetic on sizes), `layer, output_shape` (for
            bits, in channels), `output_type` (`"bits"` if packed), `binary_macs,
            float_macs, int8_macs, weight_bytes` (constants that no earlier operation
            reads), `activation_bytes` (its outputs), `reads_bits, writes_bits,
            fused_activation, padding` (`"valid"`, `"same"`; of binary convolutions
            `"one"` or `"zero"`), `strides` and `reads` (the indices of the operations
            whose outputs it reads).
        savings: What could still be saved, and how: `{"layers", "finding", "remedy"}`.
        in_float: Layers that are binary in the model and float in the file, as far as
            the file shows it: `layer, kind` (its operation), `finding, remedy, macs,
            bytes` (of its kernel).
        flash_bytes, arena_bytes: For a C file, the bytes of its constants, and of the
            memory of a run. For a Micro file, its size, and the arena that it used when
            it ran here, with 64-bit pointers (None if tflite-micro is not installed).
            Else None.
        unpacked_bytes: Bytes of the largest kernel that Micro unpacks in the arena.
        resolver: The methods of a `MicroMutableOpResolver` that a board has to call.
        open_inputs: Inputs whose examples have unknown sizes: `{"name", "shape"}`.
            All MACs and bytes of such a file are too small.
    """

    ops: dict[str, int]
    bitpacked_outputs: int
    peak_activation_bytes: int
    operations: list[dict[str, Any]]
    savings: list[dict[str, Any]]
    open_inputs: list[dict[str, Any]] = field(default_factory=list)

    def table(self) -> Table:
        """Returns the summary as a `rich` table."""
        table = super().table()
        peak = f"{self.peak_activation_bytes / 1e3:,.1f} kB"
        table.add_row("feature maps at one time", peak)
        for tensor in self.open_inputs:
            sides = f"{tensor['name']}: {_sides(tensor['shape'])}; MACs and bytes"
            table.add_row("open input", f"{sides} are those of size 1")
        return table

    def _binary(self) -> str:
        if self.runtime == "litert":
            return "none of one bit: in LiteRT convolutions of ±1 are ordinary ones"
        if self.runtime == "micro":
            return f"{self.ops[DECODE]} kernels of one or two bits a weight"
        return f"{self.lce_bconv2d}, of which {self.bitpacked_outputs} output bits"

    def tables(self) -> list[Table]:
        """Returns the summary, possible savings, and the operations."""
        last = _operation_table(self.operations)
        if not self.savings:
            return [self.table(), last]
        saved = Table(
            title="what could be saved", title_justify="left", show_lines=True
        )
        for name in ("layers", "finding", "remedy"):
            saved.add_column(name)
        for row in self.savings:
            saved.add_row(", ".join(row["layers"]), row["finding"], row["remedy"])
        return [self.table(), saved, last]


def audit(path: str | os.PathLike) -> Audit:
    """Lists the contents of any `.tflite` file, or of a `.c` file of `convert`.

    Layer names are those that the converter left in the names of tensors. Fused layers
    have the name of the layer of their kernel, or else of the last of them. The last
    operation of a file has lost its name and is listed as `"output"`; others without a
    name are `"unknown"`.

    Arguments:
        path: The file.

    Returns:
        An `Audit`.

    Raises:
        ConversionError: If the file is missing or is not an intact TFLite file.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        nobn.convert(model, "model.tflite")
        nobn.audit("model.tflite").lce_bconv2d  # 16
        ```
    """
    return audit_bytes(read_file(path), os.fspath(path))


def audit_bytes(content: bytes, path: str, ends: Sequence[str] = ()) -> Audit:
    """Audits the content of a file; `ends` are the layers of its outputs, if known."""
    if is_c(content):
        return _audit_c(content, path)
    with parsing(path):  # also rejects nonsense, such as a filter without shape
        graphs = read(content, path, ends)
        rows = _rows(graphs)
        made = Audit(
            path=path,
            size_bytes=len(content),
            runtime=runtime_with(row["op"] for row in rows),
            **_counted(rows, [row for row in rows if row["op"] == "LceBconv2d"]),
            peak_activation_bytes=_peak_activation_bytes(graphs[0]),
            savings=savings(graphs),
            in_float=[asdict(x) for graph in graphs for x in float_in_file(graph)],
            open_inputs=[
                {"name": tensor.name, "shape": _shape(tensor)}
                for tensor in graphs[0].inputs
                if tensor.open_axes
            ],
        )
    if made.runtime != "micro":
        return made
    unpacked = [x for x in rows if x["op"] == DECODE]
    most = max(row["activation_bytes"] for row in unpacked)
    with suppress(ConversionError), quiet() as chatter:
        made = replace(made, arena_bytes=arena_bytes(content, chatter))
    added = resolver(list(made.ops))
    return replace(made, flash_bytes=len(content), unpacked_bytes=most, resolver=added)


def _audit_c(content: bytes, path: str) -> Audit:
    """Audits a C file by its own description."""
    info = read_info(content, path)
    unknown = dict.fromkeys(("fused_activation", "padding", "strides"))
    bits = {x["index"] for x in info["operations"] if x["output_type"] == "bits"}
    rows = [
        {
            **{k: v for k, v in row.items() if k != "macs"},
            **_macs(row["kind"], row["macs"]),
            **unknown,
            "reads_bits": bool(bits & {*row["reads"]}),
            "writes_bits": row["index"] in bits,
        }
        for row in info["operations"]
    ]
    return Audit(
        path=path,
        size_bytes=len(content),
        runtime="c",
        **_counted(rows, [row for row in rows if row["kind"] == "binary"]),
        peak_activation_bytes=info["memory_bytes"],
        flash_bytes=info["constant_bytes"],
        arena_bytes=info["memory_bytes"],
        savings=[],
    )


def _counted(
    rows: list[dict[str, Any]], binary: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the fields of an audit that follow from its operations."""
    return {
        "operations": rows,
        "ops": dict(Counter(row["op"] for row in rows).most_common()),
        "lce_bconv2d": len(binary),
        "bitpacked_outputs": sum(row["writes_bits"] for row in binary),
        **{f"{kind}_ops": _by_frequency(rows, kind) for kind in ("float", "int8")},
        **{name: sum(row[name] for row in rows) for name in _SUMS[:3]},
    }


def _by_frequency(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    layers = defaultdict(list)
    for row in rows:
        if row["kind"] == kind:
            layers[row["op"]].append(row["layer"])
    ranked = sorted(layers.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"op": op, "count": len(names), "layers": names} for op, names in ranked]


def _macs(kind: str, count: int) -> dict[str, int]:
    return {f"{k}_macs": count * (k == kind) for k in OPERATION_KINDS[:3]}


def _rows(graphs: Sequence[Subgraph]) -> list[dict[str, Any]]:
    """Returns a row for every operation, as plain JSON types."""
    counted: set[int] = set()  # buffers of earlier operations
    rows = []
    for graph in graphs:
        channels: dict[int, int] = {}  # by index, of tensors packed into bits
        for op in graph.operations:
            shape = _shape(op.outputs[0]) if op.outputs else None
            kind = op.outputs[0].dtype if op.outputs else None
            if shape is not None and op.writes_bits:
                # A pool of bits keeps the channels of its input, if these are known.
                first, own = op.input(0), op.op == "LceBconv2d"
                last = channels.get(first.index, first.shape[-1])
                shape[-1] = last = op.input(1).shape[0] if own else last
                channels[op.outputs[0].index], kind = last, "bits"
            new = {t.buffer: t.bytes for t in op.constants if t.buffer not in counted}
            counted.update(new)
            sources = {graph.producer(tensor) for tensor in op.maps} - {None}
            strides = ("stride_height", "stride_width")
            padding, ways = op.options.get("padding"), ("same", "valid")
            if op.op == "LceBconv2d":
                ways = "one" if op.options["pad_values"] == 1 else "zero", "valid"
            row = {
                "index": op.index,
                "op": op.op,
                "kind": op.kind,
                "layer": graph.layer(op),
                "output_shape": shape,
                "output_type": kind,
                **_macs(op.kind, op.macs),
                "weight_bytes": sum(new.values()),
                "activation_bytes": sum(tensor.bytes for tensor in op.outputs),
                "reads_bits": op.kind == "binary"
                and op.op != "LceQuantize"
                and op.input(0).dtype == "int32",
                "writes_bits": op.writes_bits,
                "fused_activation": _ACTIVATIONS.get(
                    op.options.get("fused_activation_function", 0)
                ),
                "padding": None if padding is None else ways[padding],
                "strides": [op.options[s] for s in strides if s in op.options] or None,
                "reads": sorted(source.index for source in sources if source),
            }
            rows.append(row)
    return rows


def _shape(tensor: Tensor) -> list[int | None]:
    """Returns the shape of a tensor, with None for an open size."""
    axes = tensor.open_axes
    return [None if axis in axes else n for axis, n in enumerate(tensor.shape)]


def _sides(shape: Sequence[int | None]) -> str:
    """Shows the shape of one example."""
    sides = ["?" if size is None else str(size) for size in shape]
    return "x".join(sides[1:] or sides) or "1"


def _peak_activation_bytes(graph: Subgraph) -> int:
    """Returns the most bytes of feature maps that exist at one time.

    A map exists from the operation that writes it to the last one that reads it. Inputs
    of the file exist from the start, and outputs to the end.
    """
    last = {t.index: i for i, op in enumerate(graph.operations) for t in op.maps}
    end = {tensor.index for tensor in graph.outputs}
    alive = {t.index: t.bytes for t in graph.inputs}
    peak = sum(alive.values())
    for place, op in enumerate(graph.operations):
        made = op.outputs if op.maps else ()  # unpacked constants are no maps
        alive.update((tensor.index, tensor.bytes) for tensor in made)
        peak = max(peak, sum(alive.values()))
        done = [i for i in alive if i not in end and not last.get(i, -1) > place]
        for index in done:
            del alive[index]
    return peak


def _operation_table(operations: Sequence[dict[str, Any]]) -> Table:
    """Returns a table with a row per operation, or per layer if there are many."""
    long = len(operations) > _LONG
    table = Table(title="layers" if long else "operations", title_justify="left")
    table.box = box.SIMPLE_HEAD  # without lines between columns, names need no cuts
    table.add_column("#", justify="right")
    table.add_column("layer", no_wrap=True)
    table.add_column("operation")
    table.add_column("output", no_wrap=True)
    for name in ("MACs", "weights", "written"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [[row] for row in operations]
    if long:  # neighbors of one layer share a row
        by_layer = groupby(operations, key=lambda row: row["layer"])
        rows = [list(group) for _, group in by_layer]
    for joined in rows:
        row, output = joined[-1], ""
        sums = {key: sum(part[key] for part in joined) for key in _SUMS}
        if row["output_shape"] is not None:
            kind = row["output_type"].replace("float", "f")
            output = f"{_sides(row['output_shape'])} {kind}"
        macs = sums["binary_macs"] or sums["float_macs"] or sums["int8_macs"]
        kinds = {part["kind"] for part in joined} - {"shape"}
        table.add_row(
            str(joined[0]["index"]),
            row["layer"],
            ", ".join(part["op"] for part in joined) if long else _described(row),
            output,
            f"{macs / 1e6:,.2f} M" if macs >= 10_000 else f"{macs:,}" if macs else "",
            *map(_shown_bytes, (sums["weight_bytes"], sums["activation_bytes"])),
            style=None if kinds == {"binary"} else "dim",
        )
    return table


def _shown_bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B" if count else ""
    return f"{count / 1e3:,.1f} kB"


def _described(row: dict[str, Any]) -> str:
    """Returns `"LceBconv2d (stride 2, zero-pad, relu)"`."""
    words = []
    if row["strides"] and row["strides"] != [1, 1]:
        words.append(f"stride {'x'.join(map(str, dict.fromkeys(row['strides'])))}")
    if row["op"] == "LceBconv2d":
        words.append("valid" if row["padding"] == "valid" else f"{row['padding']}-pad")
    if row["fused_activation"]:
        words.append(row["fused_activation"])
    return f"{row['op']} ({', '.join(words)})" if words else row["op"]


# --- two files side by side

_NUMBERS = (
    "size_bytes",
    "peak_activation_bytes",
    "lce_bconv2d",
    "bitpacked_outputs",
    "binary_macs",
    "float_macs",
    "int8_macs",
)


def diff(
    path: str | os.PathLike, against: str | os.PathLike
) -> dict[str, dict[str, dict[str, int]]]:
    """Compares two `.tflite` files by their numbers and operations.

    Arguments:
        path: The one file.
        against: The other.

    Returns:
        Under `"numbers"`, sizes, MACs and counts of binary convolutions, named as in
        `Audit`, and `"in_float"`, the number of layers that are binary in the model and
        float in the file. Under `"ops"`, the count of every operation, by its kind and
        name, such as `"float RELU"`. Both contain `{"path", "against", "difference"}`;
        the difference is the first minus the second.

    Raises:
        ConversionError: If a file is missing or is not an intact TFLite file, or Larq
            Compute Engine is not installed.

    Example:
        ```python
        import larq_nobn as nobn

        for kind in ("nobn", "batch_norm"):
            model = nobn.models.ReActNet18((32, 32, 3), 10, kind, width=16)
            nobn.convert(model, f"{kind}.tflite")
        print(nobn.deploy.diff("nobn.tflite", "batch_norm.tflite")["ops"])
        ```
    """
    first, second = audit(path), audit(against)
    one, other = (
        Counter(f"{row['kind']} {row['op']}" for row in audited.operations)
        for audited in (first, second)
    )
    numbers = {n: _pair(getattr(first, n), getattr(second, n)) for n in _NUMBERS}
    numbers["in_float"] = _pair(len(first.in_float), len(second.in_float))
    return {
        "numbers": numbers,
        "ops": {name: _pair(one[name], other[name]) for name in sorted(one | other)},
    }


def _pair(first: int, second: int) -> dict[str, int]:
    return {"path": first, "against": second, "difference": first - second}


# A float multiplication takes about nine times as long as a binary one on a device. So
# with this fraction of all MACs, float takes about half of the time.
_LARGE_SHARE = 0.1


def savings(graphs: Sequence[Subgraph]) -> list[dict[str, Any]]:
    """Lists certain savings; equal findings share an entry."""
    where: dict[Why, list[str]] = {}
    macs: Counter[str] = Counter()  # of layers that are not binary
    binary = 0
    for graph in graphs:
        for row in float_in_file(graph):
            why = f"Binary in the model, float in the file: {row.finding}", row.remedy
            where.setdefault(why, []).append(row.layer)
        for op in graph.operations:
            layer = graph.layer(op)
            for why in _of_convolution(graph, op):
                where.setdefault(why, []).append(layer)
            if op.kind == "binary":
                binary += op.macs
            elif op.macs:
                macs[layer] += op.macs
    total = sum(macs.values())
    if binary and total > _LARGE_SHARE * (total + binary):
        layer, most = macs.most_common(1)[0]
        finding = (
            f"{total / (total + binary):.0%} of all multiplications are not binary, "
            f"and {most / total:.0%} of those are here"
        )
        remedy = (
            "Give it fewer channels or a larger stride, or split it into groups or "
            "into a depthwise and a 1x1 convolution."
        )
        where[finding, remedy] = [layer]
    return [
        {"layers": [*dict.fromkeys(names)], "finding": f"{finding}.", "remedy": remedy}
        for (finding, remedy), names in where.items()
    ]


def _of_convolution(graph: Subgraph, op: FileOperation) -> Iterator[Why]:
    """Yields what slows down a convolution of signs, and remedies."""
    if before_signs(graph, op) and not filters_have_two_values(op):
        yield (
            "Its input is binary and its kernel is not ±c, so it computes in float",
            "Give it a binary kernel_quantizer that never gives 0, such as 'ste_sign', "
            "or leave out the sign before it.",
        )
    if op.op != "LceBconv2d":
        return
    filters, made = op.input(1).shape, op.outputs[0]
    zeros = op.options["padding"] == 0 and op.options["pad_values"] == 0
    readers = [other.op for other in graph.operations if made in other.inputs]
    signed = readers == ["LceQuantize"] and made not in graph.outputs
    if zeros and signed and not op.writes_bits:
        other = "Train with pad_values=1.0."
        if filters[1:3] == (1, 1):
            other = "Use padding='valid', which is the same for a 1x1 kernel."
        yield (
            "Padding with zeros makes it write floats, which a sign turns into bits",
            f"{other} Then it writes the bits itself.",
        )
    if op.options["channels_in"] % 32:
        yield (
            "Its input channels are not a multiple of 32, so part of a word of bits is "
            "idle",
            "Give it a multiple of 32 input channels.",
        )
    if zeros and op.inputs[0] is not None:
        size, names = op.inputs[0].shape[1:3], ("height", "width")
        dilation = [op.options[f"dilation_{name}_factor"] for name in names]
        reach = missed_reach(size, filters[1:3], dilation)
        if reach is not None:
            yield (
                f"It pads a {size[0]}x{size[1]} feature map with zeros for a "
                f"{reach[0]}x{reach[1]} kernel, which LCE 0.16 computes wrongly",
                "Convert the model with larq_nobn.convert, which writes a convolution "
                "that is right there, or use larger images.",
            )
