"""The operations and tensors of a `.tflite` file, and how they hang together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

# Bits of one element; other types have no fixed size.
BITS = {
    **{"float16": 16, "float32": 32, "float64": 64, "complex64": 64},
    **{"complex128": 128, "bool": 8, "int4": 4, "int8": 8, "int16": 16, "int32": 32},
    **{"int64": 64, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64},
}


def whole_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Returns what a tensor of fixed size takes."""
    return (prod(shape) * BITS.get(dtype, 0) + 7) // 8


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph; `data` holds the bytes of a constant.

    Equal constants may share a `buffer` of the file.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: memoryview | None
    buffer: int
    sparse: bool

    @property
    def constant(self) -> bool:
        """Whether its values are in the file."""
        return self.data is not None

    @property
    def bytes(self) -> int:
        """What it takes in memory; 0 where that depends on its values."""
        if self.data is not None:
            return len(self.data)
        return whole_bytes(self.shape, self.dtype)


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation; an input that was left out is None.

    Attributes:
        index: Its place among all operations of the file.
        op: `"CONV_2D"`, or the name of a custom operation such as `"LceBconv2d"`.
        inputs: What it reads.
        outputs: What it writes.
        options: How it computes, by the names that LCE uses. Builtin operations have
            `fused_activation_function`, `padding` (0 same, 1 valid), `stride_height`
            and `stride_width` as far as they know them.
    """

    index: int
    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: dict[str, Any]

    @property
    def constants(self) -> list[Tensor]:
        """The constants that it reads."""
        return [t for t in self.inputs if t is not None and t.constant]


@dataclass(frozen=True)
class Subgraph:
    """One graph of a file: the first is the network, others are bodies of loops."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]

    @cached_property
    def _producers(self) -> dict[int, Operation]:
        return {t.index: op for op in self.operations for t in op.outputs}

    def producer(self, tensor: Tensor) -> Operation | None:
        """The operation that writes a tensor; None for inputs and constants."""
        return self._producers.get(tensor.index)

    @cached_property
    def _consumers(self) -> dict[int, list[Operation]]:
        found: dict[int, list[Operation]] = {t.index: [] for t in self.tensors}
        for op in self.operations:
            for index in dict.fromkeys(t.index for t in op.inputs if t is not None):
                found[index].append(op)
        return found

    def consumers(self, tensor: Tensor) -> list[Operation]:
        """The operations that read a tensor, in order, each once."""
        return self._consumers[tensor.index]


def is_executable(graph: Subgraph, states: Iterable[int]) -> bool:
    """Tells whether every tensor is written once, and only then read.

    Native code takes that for granted, and would read and write where no memory is.

    Arguments:
        graph: A graph of a file.
        states: The numbers of tensors that keep their values between executions.
    """
    empty = {t.index for t in graph.tensors if 0 in t.shape}  # nothing to read
    constants = [t.index for t in graph.tensors if t.constant]
    known = {*states, *constants, *(t.index for t in graph.inputs)}
    for op in graph.operations:
        read = {tensor.index for tensor in op.inputs if tensor is not None}
        written = [tensor.index for tensor in op.outputs]
        if not read <= known | empty or known.intersection(written):
            return False
        known.update(written)
    return {tensor.index for tensor in graph.outputs} <= known | empty
