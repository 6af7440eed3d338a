"""Reads any LCE `.tflite` file: what is binary in it, what is not, how much of each."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ._errors import ConversionError
from ._findings import Findings
from ._operations import Operation, Subgraph, damaged, read

_BINARY = ("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d")
# These rename axes and neither compute nor copy. Padding, concatenation, slicing and
# transposition move whole float maps through memory and count as float operations.
_SHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE")


@dataclass(frozen=True)
class Audit(Findings):
    """What an LCE `.tflite` file holds.

    Attributes:
        path: The file.
        size_bytes: Its size.
        lce_bconv2d: Binary convolutions.
        float_ops: What neither LCE's binary operations nor mere shape changes do:
            `{"op", "count", "layers"}`, the most frequent first.
        binary_macs: Multiply-accumulates of the binary convolutions, for one example.
        float_macs: Those of float convolutions and fully connected layers.
        ops: Every operation with its count, custom operations included.
        bitpacked_outputs: How many binary convolutions hand on bits, not floats.
    """

    ops: dict[str, int]
    bitpacked_outputs: int


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
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConversionError(
            f"{os.fspath(path)!r} cannot be read: {error.strerror}. Pass the path of a "
            ".tflite file."
        ) from error
    return audit_bytes(content, os.fspath(path))


def audit_bytes(content: bytes, path: str, last_layer: str = "output") -> Audit:
    """Audits the content of a file; `last_layer` names the last operation's layer."""
    graphs = read(content, path)
    try:
        return _audit(graphs, content, path, last_layer)
    except Exception as error:  # what makes no sense, such as a filter without shape
        raise damaged(path) from error


def _layer(op: Operation, last_layer: str) -> str:
    """Returns the layer in 'model/layer/operation;other/fused/parts'."""
    name = op.outputs[0].name if op.outputs else ""
    if name.startswith(("StatefulPartitionedCall:", "PartitionedCall:")):
        return last_layer
    parts = (part.split("/") for part in name.split(";"))
    return next((scope[1] for scope in parts if len(scope) > 1), "unknown")


def _macs(op: Operation) -> int:
    filters, output = op.inputs[1], op.outputs[0]
    assert filters is not None
    if op.op == "LceBconv2d":
        outputs, height, width, words = filters.shape
        # 32 channels share a word; several groups show only as too few words.
        channels = min(op.options["channels_in"], 32 * words)
        return outputs * height * width * channels * prod(output.shape[1:3])
    if op.op == "FULLY_CONNECTED":  # (out, in), applied to every row
        return prod(output.shape[:-1]) * prod(filters.shape)
    # (O, h, w, I) or depthwise (1, h, w, O), applied at every output position.
    return prod(output.shape[1:3]) * prod(filters.shape)


_FLOAT_MACS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def _audit(graphs: list[Subgraph], content: bytes, path: str, last_layer: str) -> Audit:
    operations = [op for graph in graphs for op in graph.operations]
    binary = [op for op in operations if op.op == "LceBconv2d"]
    floats: dict[str, list[str]] = {}
    for op in operations:
        if op.op not in _BINARY and op.op not in _SHAPES:
            floats.setdefault(op.op, []).append(_layer(op, last_layer))
    ranked = sorted(floats.items(), key=lambda item: (-len(item[1]), item[0]))
    return Audit(
        path=path,
        size_bytes=len(content),
        ops=dict(Counter(op.op for op in operations).most_common()),
        lce_bconv2d=len(binary),
        bitpacked_outputs=sum(op.outputs[0].dtype == "int32" for op in binary),
        float_ops=[
            {"op": name, "count": len(layers), "layers": layers}
            for name, layers in ranked
        ],
        binary_macs=sum(map(_macs, binary)),
        float_macs=sum(_macs(op) for op in operations if op.op in _FLOAT_MACS),
    )
