"""Refuses files that would not run, or would run wrongly, however right they are.

TensorFlow Lite lets the output of some operations take the memory of an input. Those
that change numbers may do so only if nobody else reads that input. This is checked for
the input itself and for the tensor whose memory it was first, not for those between: if
x, m = MUL(x), y = RESHAPE(m) and z = ADD(y) come to share one piece of memory, ADD
destroys m, although a shortcut may still need it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..._keras import keras
from ...graph import calls
from .._errors import ConversionError
from .._graph import output_layers
from ..inspection import Layers
from ..lite import Operation, Subgraph, Tensor
from ._count import check_count

# How many of its first inputs an operation may overwrite.
_CHANGES = {"ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "SOFTMAX": 1}
# These hand on what is in the memory.
_KEEPS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BITCAST")
# These keep a state from one run to the next, and the converter wires them so that they
# compute something else than the layer, even in the first run.
_FUSED_LSTM = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM")
_SCALAR_BYTES = 4  # what is no larger gets memory of its own


def check_file(graph: Subgraph, prepared: keras.Model, expected: Sequence[str]) -> None:
    """Checks what may be wrong with a file before it runs.

    Arguments:
        graph: What the file holds.
        prepared: The functional model that it was made from.
        expected: The names of the binary convolutions, once for every use.

    Raises:
        ConversionError: If a binary convolution stayed float, the file holds an
            operation that nothing can run or that runs wrongly, or executing it would
            destroy a map that is still needed. It names the layer.
    """
    layers = Layers(graph, output_layers(prepared))
    _check_operations(graph, layers, prepared)
    check_count(graph, layers, prepared, expected)
    for harm in overwritten(graph):
        raise ConversionError(
            f"On the phone, layer {layers.of(harm.by)!r} would overwrite what layer "
            f"{layers.of(harm.maker)!r} gives before layer {layers.of(harm.reader)!r} "
            "has read it: TensorFlow Lite reshapes without copying, and then computes "
            "in place. Do without a reshape of a map that has a second use."
        )


def _check_operations(graph: Subgraph, layers: Layers, prepared: keras.Model) -> None:
    from larq_compute_engine.mlir.python.tflite_schema import BuiltinOperator

    for op in graph.operations:
        if op.op in _FUSED_LSTM:
            raise ConversionError(
                f"The recurrent layer {' and '.join(_lstms(prepared))} becomes "
                f"{op.op}, which keeps a state from one run to the next and computes "
                "something else than the layer. Build it with unroll=True, or, for "
                "long sequences, as RNN(LSTMCell(...)), which has the same weights."
            )
        if not hasattr(BuiltinOperator, op.op) and not op.op.startswith("Lce"):
            kind = op.outputs[0].dtype if op.outputs else "nothing"
            raise ConversionError(
                f"Layer {layers.of(op)!r} needs the operation {op.op!r} that gives "
                f"{kind}, which TensorFlow Lite does not have. Write the layer with "
                "other functions, in float32."
            )


def _lstms(prepared: keras.Model) -> list[str]:
    """The layers that are or hold an LSTM that runs as a loop."""

    def loops(layer: keras.layers.Layer) -> bool:
        return isinstance(layer, keras.layers.LSTM) and not layer.unroll

    found = calls(prepared)
    return [c.described for c in found if any(map(loops, c.layer._flatten_layers()))]


class Harm(NamedTuple):
    """A tensor is overwritten by one operation and read by another afterwards."""

    maker: Operation
    by: Operation
    reader: Operation


def overwritten(graph: Subgraph) -> Iterator[Harm]:
    """Finds what is destroyed when TensorFlow Lite executes a graph."""
    readers = Counter(t.index for op in graph.operations for t in op.inputs if t)
    readers.update(tensor.index for tensor in (*graph.inputs, *graph.outputs))
    homes: dict[int, int] = {}  # the tensor whose memory a tensor shares
    living: dict[int, list[Tensor]] = {}  # who shares the memory of a tensor
    for op in graph.operations:
        source = _shared_input(op, graph, readers)
        if source is None:
            continue
        home = homes.get(source.index, source.index)
        sharers = living.setdefault(home, [source])
        if op.op in _CHANGES:
            if readers[home] > 1:
                continue
            for tensor in sharers:
                maker = graph.producer(tensor)
                late = [r for r in graph.consumers(tensor) if r.index > op.index]
                if maker is not None and late:
                    yield Harm(maker, op, late[0])
        homes[op.outputs[0].index] = home
        sharers.append(op.outputs[0])


def _shared_input(
    op: Operation, graph: Subgraph, readers: Counter[int]
) -> Tensor | None:
    """The input whose memory the output of an operation may take."""
    count = 1 if op.op in _KEEPS else _CHANGES.get(op.op, 0)
    output = op.outputs[0]
    if output in graph.outputs:
        return None
    for tensor in filter(None, op.inputs[:count]):
        if tensor.constant or tensor in graph.inputs:
            continue
        fits = tensor.bytes == output.bytes and tensor.bytes > _SCALAR_BYTES
        if op.op in _KEEPS or (fits and readers[tensor.index] <= 1):
            return tensor
    return None
