"""An affine operation goes into all that reads it, if all of it can take it.

Each reader gets an affine operation of its own, which computes the same, and which it
then takes over: as a threshold, into its kernel, or, if it is a pool, for those who
read the pool. If one of them cannot, nothing is changed at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import _graph
from ._into_sign import affine_into_sign
from ._kernel_after import affine_into_kernel_after
from ._pools import affine_through_pool
from ._rule import Edit, GraphRule, NotExact, is_affine, is_shared, rule


def into_layers_after(takers: Sequence[GraphRule]) -> GraphRule:
    """Returns a rule that hands an affine operation to all that reads it.

    Arguments:
        takers: Rules, of which the first that does not return None decides for a
            reader. One may also move the operation to after the reader.
    """

    @rule
    def match(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
        if not is_affine(call):
            return None
        if is_shared(graph, call):
            raise NotExact("it is used more than once")
        graph, words = _forward(graph, call, takers)
        return Edit(graph, " and ".join(dict.fromkeys(words)))

    return match


affine_into_layers_after = into_layers_after(
    (affine_through_pool, affine_into_sign, affine_into_kernel_after)
)


def _forward(
    graph: _graph.Graph, call: _graph.Call, takers: Sequence[GraphRule]
) -> tuple[_graph.Graph, list[str]]:
    edge, words = call.first_output, []
    if graph.is_output(edge):
        raise NotExact("it is an output of the model")
    for reader in graph.consumers(edge):
        name = f"{call.name}/{reader.label}"
        own = call._replace(
            label=name,
            name=name,
            outputs=_graph.NewEdge(edge),
            operation=call.operation.replaced(name=name),
        )
        alone = reader.reading(edge, own.outputs)
        graph = graph.with_calls({reader.label: [own, alone]})
        outcomes = (take(graph, own) for take in takers)
        outcome = next((x for x in outcomes if x is not None), None)
        if not isinstance(outcome, Edit):
            reason = f"{reader.described} lies after it"
            raise NotExact(outcome.reason if outcome is not None else reason)
        graph = outcome.graph
        if any(other.label == name for other in graph.calls):  # it has passed a pool
            graph, more = _forward(graph, graph.call(name), takers)
            words += more
        else:
            words += filter(None, [outcome.words])
    return graph.with_calls({call.label: []}), words
