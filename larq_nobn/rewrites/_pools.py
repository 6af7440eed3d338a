r"""Pools let a scale and a bias per channel pass.

An average is linear and a maximum rises, and both return x for a constant x:

\[ L(k x + b) = k L(x) + b, \]

of a maximum for k >= 0 only. A ReLU, or a border of zeros, lets such a k pass without
a bias. The table of kinds says of which layers L this holds, of
which k, and where channels repeat because positions become channels.
"""

from __future__ import annotations

import numpy as np

from ..graph import _graph, _kinds
from . import _rule


@_rule.rule
def affine_through_pool(graph: _graph.Graph, call: _graph.Call) -> _rule.Edit | None:
    """Lets an affine operation follow the pool that alone reads it."""
    # A shared operation would have one name for maps of two shapes.
    if not _rule.is_affine(call) or _rule.is_shared(graph, call):
        return None
    pool = _rule.reader_of(graph, call)
    passed = passes(pool, _rule.affine_of(call.operation), scale=True)
    if passed is None:
        return None
    between = _graph.NewEdge(pool.first_output)
    before = pool.reading(call.first_output, call.first_input)._replace(outputs=between)
    after = call.reading(call.first_input, between)._replace(
        outputs=pool.first_output,
        operation=_rule.rescaled(call.operation, passed.scale, passed.bias),
    )
    return _rule.Edit(graph.with_calls({call.label: (), pool.label: (before, after)}))


def passes(
    call: _graph.Call, affine: _rule.Affine, scale: bool = False
) -> _rule.Affine | None:
    """Returns the affine operation after a layer that equals one before it.

    None if the layer does not let it pass. Dropout does so at inference only: what is
    trained would not be the same any more.

    Arguments:
        call: Of the layer.
        affine: The operation.
        scale: Whether what lets a scale alone pass, as a ReLU does, counts too if the
            bias is 0.

    Raises:
        NotExact: If it would, but for some negative scale.
    """
    known = _kinds.commutation(call)
    if not known.gain or not (known.shift or (scale and not np.any(affine.bias))):
        return None
    if not known.negative and np.any(affine.scale < 0):
        raise _rule.NotExact(
            f"some gains are negative, and {call.described} takes the maximum"
        )
    return affine.tiled(call.first_output.shape[-1]) if known.tiles else affine
