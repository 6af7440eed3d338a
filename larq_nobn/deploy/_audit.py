"""Reads any LCE `.tflite` file: what is binary in it, what is not, how much of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ._errors import ConversionError
from ._findings import Findings
from ._flatbuffer import compute_engine

_BINARY = ("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d")
# These rename axes and neither compute nor copy. Padding, concatenation, slicing and
# transposition move whole float maps through memory and count as float operations.
_SHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE")
_INT32 = 2


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
    if content[4:8] != b"TFL3":
        raise ConversionError(
            f"{path!r} is not a TFLite file. Pass a file that larq_nobn.convert or "
            "another LCE converter wrote."
        )
    compute_engine()
    try:
        return _audit(content, path, last_layer)
    except Exception as error:  # struct.error, IndexError, UnicodeDecodeError, ...
        raise ConversionError(
            f"{path!r} is a damaged TFLite file. Copy or convert it again."
        ) from error


class _Operation:
    """One operation of a parsed flatbuffer."""

    def __init__(self, name: str, op: Any, tensors: list[Any]):
        self.name = name
        self.options = op.customOptions
        self.inputs = [tensors[i] for i in op.inputs if i >= 0]  # -1: left out
        self.output = tensors[op.outputs[0]]

    def layer(self, last_layer: str) -> str:
        """Returns the layer in 'model/layer/operation;other/fused/parts'."""
        name = self.output.name.decode()
        if name.startswith(("StatefulPartitionedCall:", "PartitionedCall:")):
            return last_layer
        parts = (part.split("/") for part in name.split(";"))
        return next((scope[1] for scope in parts if len(scope) > 1), "unknown")

    def macs(self) -> int:
        if self.name == "LceBconv2d":
            return self._binary_macs()
        filters = self.inputs[1].shape
        if self.name == "FULLY_CONNECTED":  # (out, in), applied to every row
            return prod(self.output.shape[:-1]) * prod(filters)
        # (O, h, w, I) or depthwise (1, h, w, O), applied at every output position.
        return prod(self.output.shape[1:3]) * prod(filters)

    def _binary_macs(self) -> int:
        from flatbuffers import flexbuffers

        options = flexbuffers.Loads(bytes(self.options))
        outputs, height, width, words = map(int, self.inputs[1].shape)
        # 32 channels share a word; several groups show only as too few words.
        channels = min(options["channels_in"], 32 * words)
        positions = prod(map(int, self.output.shape[1:3]))
        return outputs * height * width * channels * positions


_FLOAT_MACS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def _operations(content: bytes) -> Iterator[_Operation]:
    from larq_compute_engine.mlir.python import tflite_schema as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    builtin = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    for graph in model.subgraphs:
        for op in graph.operators:
            code = model.operatorCodes[op.opcodeIndex]
            if code.customCode:
                name = code.customCode.decode()
            else:
                # Old files hold the number in a byte of its own, new ones in both.
                name = builtin[max(code.builtinCode, code.deprecatedBuiltinCode)]
            yield _Operation(name, op, graph.tensors)


def _audit(content: bytes, path: str, last_layer: str) -> Audit:
    operations = list(_operations(content))
    binary = [op for op in operations if op.name == "LceBconv2d"]
    floats: dict[str, list[str]] = {}
    for op in operations:
        if op.name not in _BINARY and op.name not in _SHAPES:
            floats.setdefault(op.name, []).append(op.layer(last_layer))
    ranked = sorted(floats.items(), key=lambda item: (-len(item[1]), item[0]))
    return Audit(
        path=path,
        size_bytes=len(content),
        ops=dict(Counter(op.name for op in operations).most_common()),
        lce_bconv2d=len(binary),
        bitpacked_outputs=sum(op.output.type == _INT32 for op in binary),
        float_ops=[
            {"op": name, "count": len(layers), "layers": layers}
            for name, layers in ranked
        ],
        binary_macs=sum(op.macs() for op in binary),
        float_macs=sum(int(op.macs()) for op in operations if op.name in _FLOAT_MACS),
    )
