"""What stands before and behind an operation of a file."""

from __future__ import annotations

import numpy as np

from ..lite import Operation, Subgraph, Tensor
from ._work import Layers

# How a sign's input may be scaled and shifted, each by a constant.
FACTORS = ("MUL", "DIV")
SHIFTS = ("ADD", "SUB")


class Chain:
    """Walks along the operations of one graph.

    Arguments:
        graph: A graph of the file.
        layers: The names of its layers.
    """

    def __init__(self, graph: Subgraph, layers: Layers):
        self.operations = graph.operations
        self._graph = graph
        self.layer = layers.of
        self._ends = {tensor.index for tensor in graph.outputs}

    def readers(self, op: Operation) -> list[Operation]:
        """Returns what reads the output; nothing if the file itself hands it out."""
        output = op.outputs[0]
        return [] if output.index in self._ends else self._graph.consumers(output)

    def only_reader(self, op: Operation) -> Operation | None:
        """Returns the operation that reads the output, if it is the only use of it."""
        found = self.readers(op)
        return found[0] if len(found) == 1 else None

    def producer(self, op: Operation, place: int = 0) -> Operation | None:
        """Returns what writes an input."""
        tensor = op.inputs[place] if place < len(op.inputs) else None
        return None if tensor is None else self._graph.producer(tensor)


def values(tensor: Tensor) -> np.ndarray:
    """Returns what a constant holds."""
    return np.frombuffer(tensor.data or b"", tensor.dtype).reshape(tensor.shape)


def operand(op: Operation) -> np.ndarray | None:
    """Returns the constant of x * c, x + c, x / c or x - c, if each channel has one."""
    constants = op.constants
    if op.op not in (*FACTORS, *SHIFTS) or len(constants) != 1:
        return None
    constant = constants[0]
    if op.op in ("DIV", "SUB") and op.inputs[0] is constant:
        return None
    plain = constant.dtype == "float32" and not constant.sparse
    channelwise = all(size == 1 for size in constant.shape[:-1])
    fused = op.options.get("fused_activation_function", 0)
    return values(constant) if plain and channelwise and not fused else None


def is_positive_factor(op: Operation) -> bool:
    """Whether an operation multiplies each channel by a constant above 0."""
    factor = operand(op) if op.op in FACTORS else None
    return factor is not None and bool(np.all(factor > 0))


def is_shift(op: Operation) -> bool:
    """Whether an operation adds a constant to each channel."""
    return op.op in SHIFTS and operand(op) is not None
