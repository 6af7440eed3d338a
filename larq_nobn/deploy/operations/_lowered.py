"""A trace, and the program that its file is written from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..lite._converter import Function, IoSpec
from ..lite._trace import Trace
from . import _int8
from ._emit import outputs_of
from ._lower import lower
from ._program import (
    Node,
    Program,
    Value,
    binary_kernels,
    noisy,
    repeated_kernels,
)
from ._rules import reduced, spelled


class LoweredTrace:
    """The operations of a trace, optimized for a runtime.

    Arguments:
        trace: The operations of a model.
        io: What it takes and gives.
        runtime: Where the file will run.

    Attributes:
        merged: As few operations as compute the same, with ranges where there are.
        program: What the file is written from: the same, as the file spells it.
        repeated: The names of binary kernels that a file has only once.
        binary: Those of all, repeated ones twice.
    """

    def __init__(self, trace: Trace, io: IoSpec, runtime: str) -> None:
        self.trace, self.io = trace, io
        self._lowered, self._values, repeated, self._read = lower(trace)
        self.merged = self._optimized(runtime)
        self.program = self._spelled(runtime)
        self.repeated = repeated + repeated_kernels(self.merged)
        self.binary = [*binary_kernels(self.merged), *repeated]

    def _optimized(self, runtime: str) -> Program:
        return reduced(self._lowered)

    def _spelled(self, runtime: str) -> Program:
        return spelled(self.merged, runtime)

    def value(self, tensor: Any) -> Value:
        """The value of the operations that a tensor of the trace is."""
        return self._values[tensor.name]

    def makers(self, tensor: Any) -> list[Node]:
        """What of the operations of the file makes a tensor of the trace.

        Or the signs that it became: the opposite in some channels, within a border, or
        of a part of the channels each.
        """
        if known := self.program.maker(self.value(tensor)):
            return [known]
        signs = (node for node in self.program.nodes if node.kind == "sign")
        name = tensor.op.name
        return [x for x in signs if name in (x.name, x.arguments.get("whole"))]

    def function(self, more: Sequence[Any] = ()) -> Function:
        """Returns what computes the outputs, and more tensors of the trace."""
        values = [self.value(tensor) for tensor in more]
        return lambda inputs: outputs_of(self.program, inputs, values)

    def exact(
        self, more: Sequence[Any] = (), given: Sequence[Any] = (), noise: float = 0.0
    ) -> Function:
        """Returns what computes the same before any rule, of kernels of ±1.

        Arguments:
            more: Tensors of the trace that are wanted, too.
            given: Others that it takes after the inputs, instead of computing them.
            noise: A part of themselves that constants are off by, at random.
        """
        count, lowered = len(self.io.inputs), self._lowered
        values, fed = (list(map(self.value, tensors)) for tensors in (more, given))
        # A comparison that became a sign can still be asked for.
        nodes = [*self._read, *lowered.nodes]
        whole = Program(lowered.inputs, nodes, [*lowered.outputs, *values])
        if noise:
            whole = noisy(whole, noise)

        def function(inputs: Sequence[Any]) -> list[Any]:
            known = zip(fed, inputs[count:], strict=True)
            return outputs_of(whole, inputs[:count], (), known)

        return function


class Int8Trace(LoweredTrace):
    """The operations of a trace with ranges, as its int8 file has them.

    Attributes:
        rounded: Those that are merged, rounded where the file is, kernels included.
    """

    def _optimized(self, runtime: str) -> Program:
        return _int8.merged(self._lowered, runtime)

    def _spelled(self, runtime: str) -> Program:
        self.rounded = _int8.rounded(self.merged, runtime)
        return _int8.spelled(self.rounded, runtime)
