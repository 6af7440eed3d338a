"""A trace, and the program that its file is written from."""

from __future__ import annotations

from collections.abc import Container, Sequence

from ..lite._converter import Function, IoSpec
from ..lite._trace import Trace
from ._emit import outputs_of
from ._lower import lower
from ._rules import optimized


class LoweredTrace:
    """The operations of a trace, optimized for a runtime.

    Arguments:
        trace: The operations of a model.
        io: What it takes and gives.
        runtime: Where the file will run.
        in_float: The names of binary layers whose kernels stay float.

    Attributes:
        program: What the file is written from.
    """

    def __init__(
        self, trace: Trace, io: IoSpec, runtime: str, in_float: Container[str] = ()
    ) -> None:
        self.trace, self.io = trace, io
        program, self._values = lower(trace, in_float)
        self.program = optimized(program, runtime)

    def function(self, more: Sequence[str] = ()) -> Function:
        """Returns what computes the outputs, and more tensors of the trace by name."""
        values = [self._values[name] for name in more]
        return lambda inputs: outputs_of(self.program, inputs, values)
