"""The programs of a network, from its trace to the one that a file is written from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .._errors import ConversionError
from ..lite._converter import Function, IoSpec
from ..lite._described import Steps
from ..trace._form import Form
from ..trace._signs import TracedSign, TracedSum
from ..trace._trace import Trace
from . import _int8
from ._emit import form_of, outputs_of, with_variables
from ._kinds import Kernel, Node, Range, Value, channelwise
from ._lower import Lowered, lower
from ._program import Program, binary_kernels, everywhere, repeated_kernels
from ._ranges import with_ranges
from ._rules import reduced, spelled

_PIXELS = "net/pixels"


@dataclass(frozen=True)
class Stages:
    """The stages of a network on its way to a file, each made from the one before.

        Keras model
             |  Trace          operations of TensorFlow, computed once if constant
        traced  <------------- compared with the model, from end to end
             |  lower          operations that rules know, with kernels of +1 and -1
        lowered  <------------ compared with the trace, from sign to sign
             |  reduced        fewer operations of the same function
        merged
             |  rounded        int8 only: kernels and maps as the file rounds them
        rounded
             |  spelled        operations as the converter of the runtime reads them
        spelled
             |  to_flatbuffer
        file  <--------------- compared with `lowered`; in int8 with `rounded`

    Attributes:
        traced: The operations of the model's inference function.
        lowered: The same operations as a program.
        merged: The same function in as few operations as possible, with any ranges.
        rounded: In int8, `merged` with the rounding of the file; else `merged`.
        spelled: The program that the file is written from.
        steps: Scale and offset of the pixels that the file takes as input; None if it
            takes what the model takes.
    """

    traced: Trace
    lowered: Lowered
    merged: Program
    rounded: Program
    spelled: Program
    steps: Steps | None = None

    @property
    def io(self) -> IoSpec:
        return self.traced.io

    @property
    def binary(self) -> list[str]:
        """The names of all binary kernels, also of those that the file merges.

        A convolution in groups appears once for each group, with the trace's name.
        """
        return [*_names(binary_kernels(self.merged)), *self.lowered.repeated]

    @property
    def repeated(self) -> list[str]:
        """The names of the binary kernels that the file merges with an equal one."""
        return [*self.lowered.repeated, *_names(repeated_kernels(self.merged))]

    def of_pixels(self, steps: Steps, int8: bool) -> Stages:
        """Returns the stages of a file that takes the pixels of an image, 0 to 255.

        A depthwise convolution normalizes them. In int8 nothing is rounded before
        it, since each pixel is one of the 256 steps.
        """
        scale, offset = map(np.asarray, steps)

        def after_pixels(program: Program) -> Program:
            (image,) = program.inputs
            start = taken = image.like()
            nodes = list[Node]()
            if int8:
                taken = image.like()
                nodes.append(Range(f"{_PIXELS}/range", (start,), (taken,), 0.0, 255.0))
            nodes.append(
                channelwise(f"{_PIXELS}/normalize", taken, scale, image, offset)
            )
            made = [*nodes, *program.nodes]
            return Program([start], made, program.outputs, program.origins)

        made, rounded = after_pixels(self.spelled), self.rounded
        if int8:
            made = everywhere(made, (_int8.uneven_bias,))
            rounded = after_pixels(rounded)
        return replace(self, rounded=rounded, spelled=made, steps=steps)

    @cached_property
    def cuts(self) -> list[TracedSign | TracedSum]:
        """The signs of the trace, and the sums whose terms cancel in the program."""
        return self.traced.cuts(self.lowered.sums)

    def signs_in(
        self, program: Program, signs: Sequence[TracedSign]
    ) -> list[tuple[TracedSign, Value]]:
        """Returns the signs of the trace that a program can recover, with their values.

        `Program.sources` and `Program.decoded` take these values.
        """
        pairs = ((sign, self.lowered.value(sign.value)) for sign in signs)
        return [(sign, value) for sign, value in pairs if program.sources(value)]

    def function(self, more: Sequence[Value] = ()) -> Function:
        """Returns the function that computes the outputs, then `more` values."""
        program = with_variables(self.spelled)
        return lambda inputs: outputs_of(program, inputs, more)

    @cached_property
    def exact(self) -> Form:
        """`lowered`, with kernels of +1 and -1, as a graph that shows all signs."""
        program = self.lowered.program
        wanted = [tensor for cut in self.cuts for tensor in (cut.value, *cut.of)]
        # With `lowered.nodes`, a comparison that became a sign can be shown, too.
        nodes = [*self.lowered.nodes, *program.nodes]
        more = [self.lowered.value(tensor) for tensor in wanted]
        whole = Program(program.inputs, nodes, [*program.outputs, *more])
        return form_of(whole, len(program.outputs), self.lowered.value)


def _names(kernels: Sequence[Kernel]) -> list[str]:
    return [node.part_of or node.name for node in kernels]


def stages_of(
    trace: Trace,
    runtime: str,
    int8: bool = False,
    batches: Iterable[Sequence[np.ndarray]] | None = None,
) -> Stages:
    """Applies the rules for a runtime to the operations of a trace.

    For int8, a model without ranges gets them from batches of examples.
    """
    lowered = lower(trace, int8=int8)
    if not int8:
        merged = reduced(lowered.program)
        return Stages(trace, lowered, merged, merged, spelled(merged, runtime))
    ranged = any(isinstance(node, Range) for node in lowered.program.nodes)
    merged = _int8.merged(lowered.program, runtime, ranged)
    if not ranged and batches is not None:
        merged = with_ranges(merged, runtime, batches)
    elif not ranged:
        raise ConversionError(
            f"Model {trace.model.name!r} contains no ranges, so nothing says which "
            "numbers 8 bits should stand for. Pass calibrate=images, some hundred "
            "training images (--calibrate 256 and, if the file names none, --dataset)."
        )
    rounded = _int8.rounded(merged, runtime)
    return Stages(trace, lowered, merged, rounded, _int8.spelled(rounded, runtime))
