r"""An affine operation goes into the kernel before it.

\[ k (W x + c) + b = (k W) x + (k c + b), \]

for every layer that is linear in its kernel up to its activation, if it has none; a
pool between lets k and b pass. A quantized kernel takes k only if its quantizer Q has
Q(k W) = k Q(W), as those have that keep the magnitude.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._larq import lq
from ..graph import _graph, _kinds, _linear, _signs
from . import _rule
from ._pools import passes


class Source(NamedTuple):
    """The call before an affine operation, and the pools between, in order."""

    call: _graph.Call
    pools: list[_graph.Call]


@_rule.rule
def affine_into_kernel_before(
    graph: _graph.Graph, call: _graph.Call
) -> _rule.Edit | None:
    """Multiplies the scale into the kernels of the layers before, in all uses alike."""
    if not _rule.is_affine(call):
        return None
    affine, uses = _rule.affine_of(call.operation), graph.uses(call.name)
    sources = [source_of(graph, use.first_input, affine) for use in uses]
    ends = {source.call.label for source in sources}
    by_name = {source.call.name: source.call for source in sources}
    for name, source in by_name.items():
        _check_takes(source, affine)
        if not all(use.label in ends for use in graph.uses(name)):
            raise _rule.NotExact(f"{name!r} is used elsewhere too")
    changed: dict[str, list[_graph.Call]] = {use.label: [] for use in uses}
    for use, (first, pools) in zip(uses, sources, strict=True):
        chain = [first, *pools]
        for part, moved in zip(chain, computed(chain, use.first_output), strict=True):
            changed[part.label] = [moved]
    graph = graph.with_calls(changed)
    for source in by_name.values():
        operation = linear(source).scaled_outputs(affine.scale, affine.bias)
        graph = graph.with_operation(operation)
    return _rule.Edit(graph, "folded into " + " and ".join(map(repr, by_name)))


def source_of(graph: _graph.Graph, edge: Any, affine: _rule.Affine) -> Source:
    """Returns the call before the pools that an affine operation of an edge passes.

    Raises:
        NotExact: If something else reads what is on the way.
    """
    call = graph.producer(edge)
    if call is None:
        raise _rule.NotExact("it reads an input of the model")
    if graph.sole_consumer(edge) is None:
        raise _rule.NotExact(f"the output of {call.described} is read elsewhere too")
    if _kinds.commutation(call).tiles or passes(call, affine) is None:
        return Source(call, [])
    if _rule.is_shared(graph, call):
        raise _rule.NotExact(f"{call.described} is used more than once")
    before = source_of(graph, call.first_input, affine)
    return before._replace(pools=[*before.pools, call])


def computed(chain: list[_graph.Call], end: Any) -> list[_graph.Call]:
    """Calls in a row of which the first computes something else, and the last an edge.

    Arguments:
        chain: They.
        end: What the last makes from now on; between them are new edges.
    """
    edges = [*(_graph.NewEdge(call.first_output) for call in chain[:-1]), end]
    moved_calls = [chain[0]._replace(outputs=edges[0])]
    for call, before, after in zip(chain[1:], edges, edges[1:], strict=False):
        moved = call.reading(call.first_input, before)
        moved_calls.append(moved._replace(outputs=after))
    return moved_calls


def before_pools(
    graph: _graph.Graph, affine: _graph.Call, source: Source
) -> _graph.Graph:
    """Moves an affine operation to right after a call, which pools follow."""
    first, pools = source
    after = affine.reading(affine.first_input, first.first_output)
    after = after._replace(outputs=first.first_output)
    chain = computed([after, *pools], affine.first_output)
    parts = {pool.label: [new] for pool, new in zip(pools, chain[1:], strict=True)}
    parts[pools[0].label].insert(0, chain[0])
    return graph.with_calls({affine.label: [], **parts})


def linear(call: _graph.Call, place: str = "before it") -> _linear.Linear:
    """Returns the linear form of a call.

    Arguments:
        call: Any.
        place: Where it lies, as seen from the batch norm.

    Raises:
        NotExact: If it has none that is known.
    """
    form = _linear.linear_of(call.operation)
    if form is None:
        raise _rule.NotExact(f"{call.described} lies {place}")
    return form


def is_quantized(call: _graph.Call) -> bool:
    """Tells whether what a call makes is that of a quantized kernel."""
    form = linear(call)
    # A kernel of ±c may also be a plain one.
    return form.quantizer(form.last) is not None or _signs.is_binary_convolution(call)


def _check_takes(call: _graph.Call, affine: _rule.Affine) -> None:
    if linear(call).is_activated:
        raise _rule.NotExact(f"{call.name!r} has an activation")
    # Scales in a kernel of -1 and +1 would make its integer sums inexact.
    if is_quantized(call) and not _follows(linear(call), affine):
        raise _rule.NotExact(f"the kernel of {call.name!r} is quantized")
    if call.layer.compute_dtype != affine.dtype:
        raise _rule.NotExact(f"{call.name!r} computes in {call.layer.compute_dtype}")
    _rule.check_trains(call, affine)


def _follows(form: _linear.Linear, affine: _rule.Affine) -> bool:
    """Whether a quantized kernel has the magnitude, and sign, of the latent one.

    As that of MagnitudeAwareSign has. Then scales are better off in the latent kernel:
    beside a scale of 10, steps that double small latent weights would shake the
    network.
    """
    quantizer = form.quantizer(form.last)
    if quantizer is None or not np.all(affine.scale):
        return False
    if isinstance(quantizer, lq.quantizers.NoOp):  # flipped in place, by Bop
        return False
    latent, scale = form.kernel(form.last), form.by_output(affine.scale)
    if np.abs(latent * scale).max() > 1:  # where pseudo-gradients are 0
        return False
    wanted = _signs.quantized(form.operation, form.last) * scale
    return np.allclose(
        _signs.quantized(form.operation, form.last, latent * scale), wanted, 1e-5, 0
    )
