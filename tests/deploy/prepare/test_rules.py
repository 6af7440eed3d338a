"""Each rule and pass of preparation alone: the graphs around it compute the same.

What each makes of the rows that it is for, the modules beside this one say.
"""

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.int8 import _conversion
from larq_nobn.deploy.prepare import _affine, _at_inference
from larq_nobn.deploy.prepare._binary_layers import binary_layer
from larq_nobn.deploy.prepare._prepare import PASSES, at_inference
from larq_nobn.graph._graph import Graph
from larq_nobn.rewrites import _merge
from larq_nobn.rewrites._rule import Edit, Refusal
from rewrites.rewriting import (
    AFTER,
    BEFORE,
    SCALES,
    check_edges,
    network,
)

GIVEN = (_at_inference.layer_is_affine, binary_layer(), _at_inference.kernel_is_numbers)
PREPARED = (
    _affine.affine_into_binary_convolution,
    _affine.negative_into_signs,
    _conversion.merge_scale,
    _merge.merge_affines,
)


def check(graph, rule):
    """Checks all edits that a rule makes of a graph."""
    labels = [call.label for call in graph.calls]
    outcomes = [rule(graph, call) for call in graph.calls]
    assert all(isinstance(x, (Edit, Refusal, type(None))) for x in outcomes)
    found = [outcome.graph for outcome in outcomes if isinstance(outcome, Edit)]
    for edited in found:
        assert check_edges(graph, edited, whole=True, tolerance=1e-5)
    assert labels == [call.label for call in graph.calls]


@settings(max_examples=4)
@given(
    st.sampled_from(sorted({*BEFORE} - {"magnitude"})),
    st.lists(st.sampled_from(sorted(AFTER)), min_size=1, max_size=2),
    st.sampled_from(sorted(SCALES)),
    st.booleans(),
    st.integers(0, 9),
)
def test_every_rule_keeps_every_edge(before, after, scales, shared, seed):
    """Of whole and half numbers: float32 is exact, and signs often meet a 0."""
    assume(not ("pool" in before and "pool" in after))  # no map would be left
    model = network(before, after, scales, shared, True, seed, "float32")
    for rule in GIVEN:
        check(Graph(as_functional(model)), rule)
    for rule in PREPARED:
        check(at_inference(model), rule)


@settings(max_examples=4)
@given(
    st.sampled_from(sorted(BEFORE)),
    st.lists(st.sampled_from(sorted(AFTER)), min_size=1, max_size=2),
    st.sampled_from(sorted(SCALES)),
    st.booleans(),
)
def test_every_pass_keeps_every_edge(before, after, scales, shared):
    model = network(before, after, scales, shared, policy="float32")
    graph = at_inference(model)
    labels = [call.label for call in graph.calls]
    for change in PASSES:
        edited = change(graph)
        check_edges(graph, edited, tolerance=1e-4)
        graph = edited
    assert labels == [call.label for call in at_inference(model).calls]
