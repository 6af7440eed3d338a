r"""An affine operation after a concatenation is one of each part before it.

\[ k\,[x_1, x_2] + b = [k_1 x_1 + b_1,\; k_2 x_2 + b_2], \]

where k and b are cut as the channels are. That is worth it where what makes each part
can take its own over, as between the layers of dense blocks and of inception blocks.
Pools between, which let k and b pass, follow the concatenation as before.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import _graph, _kinds
from . import _rule
from ._kernel_before import computed, source_of


def affine_before_concatenation(takers: Sequence[_rule.GraphRule]) -> _rule.GraphRule:
    """Returns a rule that hands an affine operation to the parts of its input.

    Arguments:
        takers: Rules, of which one must fit each part.
    """

    @_rule.rule
    def match(graph: _graph.Graph, call: _graph.Call) -> _rule.Edit | None:
        if not _rule.is_affine(call) or _rule.is_shared(graph, call):
            return None
        affine = _rule.affine_of(call.operation)
        join, pools = source_of(graph, call.first_input, affine)
        if not _kinds.joins_channels(join) or not affine.scale.ndim:
            return None
        if len({id(edge) for edge in join.reads}) < len(join.reads):
            raise _rule.NotExact(f"{join.described} reads a map twice")
        parts, first = [], 0
        for index, edge in enumerate(join.reads):
            last = first + edge.shape[-1]
            scale, bias = affine.scale[first:last], affine.bias[first:last]
            name = f"{call.name}_{index}"
            while graph.uses(name):
                name += "_part"
            operation = _rule.rescaled(call.operation, scale, bias).replaced(name=name)
            part = call.reading(call.first_input, edge)
            part = part._replace(label=name, name=name, operation=operation)
            parts.append(part._replace(outputs=_graph.NewEdge(edge)))
            join = join.reading(edge, parts[-1].first_output)
            first = last
        chain = computed([join, *pools], call.first_output)
        moved = {pool.label: [pool] for pool in chain}
        moved[join.label] = [*parts, chain[0]]
        graph, words = graph.with_calls({call.label: [], **moved}), []
        for part in parts:
            outcome = _taken(graph, part, takers)
            graph = outcome.graph
            words.append(outcome.words)
        return _rule.Edit(graph, " and ".join(dict.fromkeys(filter(None, words))))

    return match


def _taken(
    graph: _graph.Graph, part: _graph.Call, takers: Sequence[_rule.GraphRule]
) -> _rule.Edit:
    reasons = []
    for take in takers:
        outcome = take(graph, part)
        if isinstance(outcome, _rule.Edit):
            return outcome
        if isinstance(outcome, _rule.Refusal):
            reasons.append(outcome.reason)
    raise _rule.NotExact(next(iter(reasons), f"no layer takes {part.name!r}"))
