"""An affine operation stays, right after a quantized kernel, where it costs nothing.

There LCE makes it the multiplier and the bias of the binary convolution, whose sums
stay whole numbers. Pools between, which let it pass (`affine_through_pool`), follow it.
"""

from __future__ import annotations

from ..graph import _graph
from ._kernel_before import Source, before_pools, is_quantized, linear, source_of
from ._rule import Edit, NotExact, affine_of, is_affine, rule


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
    if pools:
        graph = before_pools(graph, call, sources[0])
    return Edit(graph, f"became gain and bias after {first.name!r}")


@rule
def affine_after_activation(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Leaves an affine operation after a quantized kernel and its activation."""
    if not is_affine(call):
        return None
    sources = _quantized_sources(graph, call)
    if any(source.pools for source in sources):
        raise NotExact("a pool lies between")
    return Edit(graph, f"became gain and bias after {sources[0].call.name!r}")


@rule
def affine_stays(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Leaves an affine operation where it is."""
    if not is_affine(call):
        return None
    return Edit(graph, "became a per-channel affine layer")


def _quantized_sources(graph: _graph.Graph, call: _graph.Call) -> list[Source]:
    affine = affine_of(call.operation)
    uses = graph.uses(call.name)
    sources = [source_of(graph, use.first_input, affine) for use in uses]
    for source, _ in sources:
        if not is_quantized(source):
            raise NotExact(f"the kernel of {source.name!r} is not a quantized one")
    return sources
