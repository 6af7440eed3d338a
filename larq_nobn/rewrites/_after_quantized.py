"""An affine operation stays, right after a quantized kernel, where it costs nothing.

There LCE makes it the multiplier and the bias of the binary convolution, whose sums
stay whole numbers. Pools between, which let it pass (`affine_through_pool`), follow it.

Where scale * x + bias is exactly 0 for some x, a sign of it is +1, which rounding must
not turn: neither that of a product and a sum, where batch norm subtracts a mean first,
nor that of a pool which follows them now. So a little is added to such biases. Signs do
not notice a part of a step, anything else no more than rounding. But a function that
jumps at 0, such as `tf.sign`, has to see 0 itself: for it the bias is the opposite of
what the product will be. So it is for another affine operation, of whose scale little
would be less than 0.
"""

from __future__ import annotations

import numpy as np

from ..graph import _graph, _operation, _steps
from ._into_sign import starts_with_plain_sign
from ._kernel_before import Source, before_pools, is_quantized, linear, source_of
from ._pools import averages
from ._rule import Edit, NotExact, affine_of, is_affine, rescaled, rule


@rule
def affine_after_quantized_kernel(
    graph: _graph.Graph, call: _graph.Call
) -> Edit | None:
    """Moves an affine operation to right after the quantized kernel before it."""
    if not is_affine(call):
        return None
    sources = _quantized_sources(graph, call)
    for source in sources:
        if linear(source.call).is_activated:
            raise NotExact(f"{source.call.name!r} has an activation")
    first, pools = sources[0]
    if len(sources) > 1 and any(source.pools for source in sources):
        raise NotExact("it is used more than once")
    if any(map(averages, pools)) and _keeps_ties(graph, call):
        raise NotExact("of what is 0, an average of scaled sums makes rounding")
    operation = _beside_ties(graph, call, moved=bool(pools))
    if pools:
        graph = before_pools(graph, call, sources[0])
    return Edit(
        graph.with_operation(operation), f"became gain and bias after {first.name!r}"
    )


@rule
def affine_after_activation(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Leaves an affine operation after a quantized kernel and its activation."""
    if not is_affine(call):
        return None
    sources = _quantized_sources(graph, call)
    if any(source.pools for source in sources):
        raise NotExact("a pool lies between")
    operation = _beside_ties(graph, call, moved=False)
    words = f"became gain and bias after {sources[0].call.name!r}"
    return Edit(graph.with_operation(operation), words)


@rule
def affine_stays(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Leaves an affine operation where it is."""
    if not is_affine(call):
        return None
    operation = _beside_ties(graph, call, moved=False)
    return Edit(graph.with_operation(operation), "became a per-channel affine layer")


def _keeps_ties(graph: _graph.Graph, call: _graph.Call) -> bool:
    """Whether a jump reads what may be exactly 0, and no bias can move that."""
    edge, steps = call.first_output, graph.facts.get(id(call.first_input))
    if steps is None or _steps.finest_at_signs(
        graph, edge, steps, starts_with_plain_sign
    ):
        return False
    return _steps.meets_jump(graph, edge, starts_with_plain_sign)


def _quantized_sources(graph: _graph.Graph, call: _graph.Call) -> list[Source]:
    affine = affine_of(call.operation)
    uses = graph.uses(call.name)
    sources = [source_of(graph, use.first_input, affine) for use in uses]
    for source, _ in sources:
        if not is_quantized(source):
            raise NotExact(f"the kernel of {source.name!r} is not a quantized one")
    return sources


def _beside_ties(
    graph: _graph.Graph, call: _graph.Call, moved: bool
) -> _operation.Operation:
    """The operation of a call, whose biases are no exact ties of a sign any more."""
    scale, bias, _, dtype = affine_of(call.operation)
    steps = graph.facts.get(id(call.first_input))
    if steps is None or len(graph.uses(call.name)) > 1:
        return call.operation
    finest = _steps.finest_at_signs(
        graph, call.first_output, steps, starts_with_plain_sign
    )
    number = np.float64 if dtype == "float64" else np.float32
    if finest is not None:
        steps = finest
    some = (scale != 0) & (moved | (bias != 0))
    threshold = -bias / np.where(some, scale, 1.0)
    reached = some & steps.reach(threshold, number)
    if finest is not None:
        better = bias + np.abs(scale) * finest.step / 4
    elif _steps.meets_jump(graph, call.first_output, is_affine):
        value = np.round(threshold / steps.step) * steps.step
        better = -(scale.astype(number) * value.astype(number))
    else:
        better = bias + 4 * np.finfo(number).eps * np.abs(bias)
    return rescaled(call.operation, scale, np.where(reached, better, bias))
