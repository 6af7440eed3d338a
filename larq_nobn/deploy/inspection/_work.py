"""What each operation of a file does: its layer, kind, multiplications and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..lite import Operation, Subgraph, Tensor

# What an operation computes in. Those of kind "shape" rename axes or do arithmetic on
# sizes. Padding, concatenation, slicing and transposition move whole maps through
# memory, and count as what these maps are made of.
KINDS = ("binary", "float", "int8", "shape")

_BINARY = ("LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d")
_SHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE")
_FLOATS = ("float16", "float32", "float64")
_BYTES = ("int8", "uint8", "int16", "int4")
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_ACTIVATIONS = {1: "relu", 2: "relu1", 3: "relu6", 4: "tanh", 5: "sign"}


def kind_of(op: Operation) -> str:
    """Returns the one of `KINDS` that an operation belongs to."""
    if op.op in _BINARY:
        return "binary"
    if op.op in _SHAPES:
        return "shape"
    read = [t for t in op.inputs if t is not None and not t.constant]
    types = {t.dtype for t in (*read, *op.outputs)}
    has_bytes = not types.isdisjoint(_BYTES)
    if not types.isdisjoint(_FLOATS) and not (has_bytes and op.op in _CONVERSIONS):
        return "float"
    return "int8" if has_bytes else "shape"


def reads_bits(op: Operation) -> bool:
    """Whether what an operation reads holds 32 channels per word."""
    first = op.inputs[0] if op.inputs else None
    packed = op.op in _BINARY and op.op != "LceQuantize"
    return packed and first is not None and first.dtype == "int32"


def writes_bits(op: Operation) -> bool:
    """Whether what an operation writes holds 32 channels per word."""
    packed = op.op in _BINARY and op.op != "LceDequantize"
    return packed and bool(op.outputs) and op.outputs[0].dtype == "int32"


def macs(op: Operation) -> int:
    """Returns the multiply-accumulates of one run; 0 for what has none."""
    count = _MACS.get(op.op)
    return 0 if count is None else count(op)


def _input(op: Operation, index: int) -> Tensor:
    found = op.inputs[index]
    assert found is not None
    return found


def _binary_convolution(op: Operation) -> int:
    outputs, height, width, words = _input(op, 1).shape
    # 32 channels share a word; several groups show only as too few words.
    channels = min(op.options["channels_in"], 32 * words)
    return outputs * height * width * channels * prod(op.outputs[0].shape[:3])


def _convolution(op: Operation) -> int:
    # (O, h, w, I / groups), applied at every output position.
    return prod(op.outputs[0].shape[:3]) * prod(_input(op, 1).shape)


def _depthwise_convolution(op: Operation) -> int:
    _, height, width, _ = _input(op, 1).shape
    return prod(op.outputs[0].shape) * height * width


def _transposed_convolution(op: Operation) -> int:
    # Every input position is spread over a whole kernel.
    return prod(_input(op, 2).shape[:3]) * prod(_input(op, 1).shape)


def _fully_connected(op: Operation) -> int:
    _, inputs = _input(op, 1).shape
    return prod(op.outputs[0].shape) * inputs


def _matrix_product(op: Operation) -> int:
    *_, rows, columns = _input(op, 0).shape
    summed = rows if op.options.get("adjoint_x") else columns
    return prod(op.outputs[0].shape) * summed


_MACS = {
    "LceBconv2d": _binary_convolution,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise_convolution,
    "TRANSPOSE_CONV": _transposed_convolution,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matrix_product,
}


class Layers:
    """The layers that the operations of a graph come from, as far as is known.

    Arguments:
        graph: A graph of the file.
        ends: The layers of its outputs, whose names the converter drops; empty where
            they are not known.
    """

    def __init__(self, graph: Subgraph, ends: Sequence[str] = ()) -> None:
        self._ends = {
            tensor.index: end for tensor, end in zip(graph.outputs, ends, strict=False)
        }

    def of(self, op: Operation) -> str:
        """Returns the layer of an operation; of several that were fused, the last.

        A binary convolution that writes bits bears the name of the sign behind it; its
        own layer is that of the sign in front.
        """
        inner = op.op == "LceBconv2d" and writes_bits(op)
        tensors = [_input(op, 0)] if inner else op.outputs
        if not tensors:
            return "unknown"
        tensor = tensors[0]
        if tensor.index in self._ends:
            return self._ends[tensor.index]
        if tensor.name.startswith(("StatefulPartitionedCall:", "PartitionedCall:")):
            return "output"
        # 'model/layer/operation;other/fused/parts'
        parts = (part.split("/") for part in tensor.name.split(";"))
        return next((scope[1] for scope in parts if len(scope) > 1), "unknown")


def rows(graphs: Sequence[Subgraph], layers: Sequence[Layers]) -> list[dict[str, Any]]:
    """Returns what there is to know about every operation, as plain JSON types."""
    held: set[int] = set()  # buffers that an earlier operation was charged with
    found = []
    for graph, names in zip(graphs, layers, strict=True):
        channels: dict[int, int] = {}  # of the tensors that are packed into bits
        for op in graph.operations:
            if writes_bits(op):
                channels[op.outputs[0].index] = _channels(op, channels)
            sources = {graph.producer(tensor) for tensor in _read(op)} - {None}
            found.append(
                {
                    **_row(op, names.of(op), channels, held),
                    "reads": sorted(source.index for source in sources if source),
                }
            )
    return found


def _row(
    op: Operation, layer: str, channels: dict[int, int], held: set[int]
) -> dict[str, Any]:
    kind = kind_of(op)
    new = {t.buffer: t.bytes for t in op.constants if t.buffer not in held}
    held.update(new)
    output = op.outputs[0] if op.outputs else None
    packed = output is not None and output.index in channels
    strides = ("stride_height", "stride_width")
    return {
        "index": op.index,
        "op": op.op,
        "kind": kind,
        "layer": layer,
        "output_shape": _shape(output, channels) if output else None,
        "output_type": "bits" if packed else output.dtype if output else None,
        **{f"{k}_macs": macs(op) if k == kind else 0 for k in KINDS[:3]},
        "weight_bytes": sum(new.values()),
        "activation_bytes": sum(tensor.bytes for tensor in op.outputs),
        "reads_bits": reads_bits(op),
        "writes_bits": packed,
        "fused_activation": _ACTIVATIONS.get(
            op.options.get("fused_activation_function", 0)
        ),
        "padding": _padding(op),
        "strides": [op.options[s] for s in strides if s in op.options] or None,
    }


def _shape(tensor: Tensor, channels: dict[int, int]) -> list[int]:
    last = channels.get(tensor.index)
    return list(tensor.shape) if last is None else [*tensor.shape[:-1], last]


def _channels(op: Operation, known: dict[int, int]) -> int:
    first = _input(op, 0)
    if op.op == "LceBconv2d":
        return _input(op, 1).shape[0]
    # A pool of bits keeps their number; where its input came from may be unknown.
    return known.get(first.index, first.shape[-1])


def _padding(op: Operation) -> str | None:
    if "padding" not in op.options:
        return None
    if op.options["padding"] == 1:
        return "valid"
    if op.op != "LceBconv2d":
        return "same"
    return "one" if op.options["pad_values"] == 1 else "zero"


def peak_activation_bytes(graph: Subgraph) -> int:
    """Returns the most bytes of feature maps that exist at one time.

    Operations run in the order of the file; a map exists from the operation that
    writes it to the last that reads it, inputs of the file from the start and outputs
    to the end.
    """
    last = {t.index: i for i, op in enumerate(graph.operations) for t in _read(op)}
    end = {tensor.index for tensor in graph.outputs}
    alive = {t.index: t.bytes for t in graph.inputs}
    peak = sum(alive.values())
    for place, op in enumerate(graph.operations):
        alive.update((tensor.index, tensor.bytes) for tensor in op.outputs)
        peak = max(peak, sum(alive.values()))
        alive = {
            index: size
            for index, size in alive.items()
            if index in end or last.get(index, -1) > place
        }
    return peak


def _read(op: Operation) -> list[Tensor]:
    return [t for t in op.inputs if t is not None and not t.constant]
