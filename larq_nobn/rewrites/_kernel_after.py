r"""An affine operation goes into the kernel after it.

\[ W (k x + b) + c = (W k) x + (c + W b), \]

with k per input channel of the kernel. At a border that is padded less than all of the
kernel meets b, so there b must be 0; what pads it must be 0 in any case, since it would
be multiplied by k as well.
"""

from __future__ import annotations

import numpy as np

from ..graph import _graph
from ._kernel_before import linear
from ._rule import Edit, NotExact, affine_of, check_trains, is_affine, reader_of, rule


@rule
def affine_into_kernel_after(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Multiplies the scale into the kernel of the layer that alone reads it."""
    if not is_affine(call):
        return None
    affine, reader = affine_of(call.operation), reader_of(graph, call)
    check_trains(reader, affine)
    form = linear(reader, "after it")
    if reader.operation.argument("input_quantizer") is not None:
        raise NotExact(f"{reader.described} quantizes its input")
    if any(form.quantizer(name) is not None for name in form.kernels):
        raise NotExact(f"the kernel of {reader.name!r} is quantized")
    if np.any(affine.bias) and not form.is_uniform:
        raise NotExact(
            f"{reader.described} does not see as much of its input everywhere"
        )
    if form.border:
        raise NotExact(f"{reader.name!r} pads with {form.border:g}")
    new = reader.reading(call.first_output, call.first_input)._replace(
        operation=form.scaled_inputs(affine.scale, affine.bias)
    )
    graph = graph.with_calls({call.label: (), reader.label: [new]})
    return Edit(graph, f"folded into {reader.name!r}")
