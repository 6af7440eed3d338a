r"""Two affine operations in a row are one.

\[ k_2 (k_1 x + b_1) + b_2 = k_2 k_1\, x + (k_2 b_1 + b_2) . \]

It needs the first to be read by nothing but the second, in every use alike.
"""

from __future__ import annotations

from ..graph import _graph, _models
from ..layers import ChannelAffine
from ._rule import Edit, affine_of, affine_operation, is_affine, rule


@rule
def merge_affines(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Merges an affine operation with the next one, unless both are trained as such.

    What was a batch norm gives its name, the last one if both were; else the second.
    """
    pairs = _pairs(graph, call)
    if not pairs:
        return None
    first, second = (c.operation for c in pairs[0])
    origins = sorted((*first.origins, *second.origins), key=_models.is_batch_norm)
    if origins and all(isinstance(layer, ChannelAffine) for layer in origins):
        return None
    normed = [any(map(_models.is_batch_norm, x.origins)) for x in (first, second)]
    named = first if normed == [True, False] else second
    (scale, bias), (k, b) = (affine_of(x)[:2] for x in (first, second))
    operation = affine_operation(
        named.name,
        scale * k,
        bias * k + b,
        tuple(origins),
    )
    changed = {before.label: () for before, _ in pairs} | {
        after.label: [
            after.reading(after.first_input, before.first_input)._replace(
                name=operation.name, operation=operation, node=None
            )
        ]
        for before, after in pairs
    }
    return Edit(graph.with_calls(changed))


def _pairs(
    graph: _graph.Graph, call: _graph.Call
) -> list[tuple[_graph.Call, _graph.Call]]:
    """All uses of an affine operation with the affine operation that reads each."""
    if not is_affine(call):
        return []
    uses = graph.uses(call.name)
    readers = [graph.sole_consumer(use.first_output) for use in uses]
    pairs = [(a, b) for a, b in zip(uses, readers, strict=True) if b is not None]
    names = {after.name for _, after in pairs}
    if len(pairs) < len(uses) or len(names) > 1 or not is_affine(pairs[0][1]):
        return []
    return pairs if len(graph.uses(names.pop())) == len(uses) else []
