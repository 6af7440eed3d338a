"""An affine operation goes into all that reads it, if all of it can take it.

Each reader gets an affine operation of its own, which computes the same, and which it
then takes over: as a threshold, into its kernel, or, if it is a pool, for those who
read the pool. If one of them cannot, nothing is changed at all.
"""

from __future__ import annotations

from ..graph import Call, Graph, Value
from ._into_sign import affine_into_sign
from ._kernel_after import affine_into_kernel_after
from ._pools import affine_through_pool
from ._rule import Edit, NotExact, Refusal, is_affine, is_shared, rule

_TAKERS = (affine_through_pool, affine_into_sign, affine_into_kernel_after)


@rule
def affine_into_layers_after(graph: Graph, call: Call) -> Edit | None:
    """Hands an affine operation to all that reads it, if all of it can take it."""
    if not is_affine(call):
        return None
    if is_shared(graph, call):
        raise NotExact("it is used more than once")
    graph, words = _forward(graph, call)
    return Edit(graph, " and ".join(dict.fromkeys(words)))


def _forward(graph: Graph, call: Call) -> tuple[Graph, list[str]]:
    edge, words = call.first_output, []
    if graph.is_output(edge):
        raise NotExact("it is an output of the model")
    for reader in graph.consumers(edge):
        name = f"{call.name}/{reader.label}"
        own = call._replace(
            label=name,
            name=name,
            outputs=Value(edge),
            operation=call.operation.replaced(name=name),
        )
        alone = reader.reading(edge, own.outputs)
        graph = graph.with_calls({reader.label: [own, alone]})
        outcome = next(x for take in _TAKERS if (x := take(graph, own)) is not None)
        if isinstance(outcome, Refusal):
            raise NotExact(outcome.reason)
        graph = outcome.graph
        if outcome.words:
            words.append(outcome.words)
        else:  # it has passed a pool
            graph, more = _forward(graph, graph.call(name))
            words += more
    return graph.with_calls({call.label: []}), words
