"""Each rule alone: the graph before and after computes the same at every edge.

Where a rule fits and where it does not, folding says: `tests/surgery/test_fold.py` and
`test_fold_ahead.py`.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from larq_nobn.graph._models import from_keras
from larq_nobn.rewrites import (
    _after_quantized,
    _forward,
    _into_sign,
    _kernel_after,
    _kernel_before,
    _merge,
    _pools,
)
from larq_nobn.rewrites._batch_norm import batch_norm_to_affine
from larq_nobn.rewrites._rule import Edit, Refusal
from rewrites.rewriting import (
    AFTER,
    BEFORE,
    SCALES,
    affine_in,
    check_edges,
    graph_of,
    network,
)

RULES = {
    "affine_after_activation": _after_quantized.affine_after_activation,
    "affine_after_quantized_kernel": _after_quantized.affine_after_quantized_kernel,
    "affine_into_kernel_after": _kernel_after.affine_into_kernel_after,
    "affine_into_kernel_before": _kernel_before.affine_into_kernel_before,
    "affine_into_layers_after": _forward.affine_into_layers_after,
    "affine_into_sign": _into_sign.affine_into_sign,
    "affine_stays": _after_quantized.affine_stays,
    "affine_through_pool": _pools.affine_through_pool,
    "merge_affines": _merge.merge_affines,
}
drawn = settings(max_examples=4)
networks = st.fixed_dictionaries(
    {
        "before": st.sampled_from(sorted(BEFORE)),
        "after": st.lists(st.sampled_from(sorted(AFTER)), min_size=1, max_size=2),
        "scales": st.sampled_from(sorted(SCALES)),
        "shared": st.booleans(),
        "whole": st.booleans(),
        "seed": st.integers(0, 9),
    }
)


def edits(graph, rule):
    """What a rule makes of each call of a graph."""
    outcomes = [rule(graph, call) for call in graph.calls]
    assert all(isinstance(x, (Edit, Refusal, type(None))) for x in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Edit)]


@example(
    {"before": "binary", "after": ["flat"], "scales": "mixed", "shared": True}
    | {"whole": False, "seed": 0}
)
@drawn
@given(networks)
def test_every_rule_keeps_every_edge(drawn):
    graph = graph_of(network(**drawn))
    labels = [call.label for call in graph.calls]
    for rule in RULES.values():
        for edit in edits(graph, rule):
            assert check_edges(graph, edit.graph, drawn["whole"])
    assert [call.label for call in graph.calls] == labels


@pytest.mark.parametrize("scales, shared", [("mixed", False), ("one 0", True)])
def test_a_batch_norm_is_affine(scales, shared):
    graph = from_keras(network("rectified", ["norm"], scales, shared))
    [first, *_] = edits(graph, batch_norm_to_affine)
    check_edges(graph, first.graph)
    whole = graph_of(network("rectified", ["norm"], scales, shared))
    assert not edits(whole, batch_norm_to_affine)


@pytest.mark.parametrize(
    "after, scales",
    [("sign", "mixed"), ("sign inside", "negative"), ("shifted", "mixed")],
)
def test_ties_go_to_the_same_side(after, scales):
    """Sums of signs that meet their thresholds exactly, many times."""
    model = network("binary", [after], scales, whole=True)
    graph = graph_of(model, merged=True)
    for edit in edits(graph, _into_sign.affine_into_sign):
        check_edges(graph, edit.graph, whole=True)
    for edit in edits(graph, _after_quantized.affine_stays):
        check_edges(graph, edit.graph, whole=True)


def test_a_wrong_edit_is_found():
    graph = graph_of(network("conv", ["relu"], "mixed"))
    right = _kernel_before.affine_into_kernel_before(graph, affine_in(graph)).graph
    operation = next(c.operation for c in right.calls if "kernel" in c.operation.values)
    kernel = operation.values["kernel"].copy()
    kernel[0, 0, 0, 0] += 0.1
    wrong = right.with_operation(operation.replaced({"kernel": kernel}))
    check_edges(graph, right)
    with pytest.raises(AssertionError):
        check_edges(graph, wrong)
