"""Each pass over a prepared graph alone: every edge that it keeps is what it was."""

from hypothesis import given, settings
from hypothesis import strategies as st
from larq_nobn.deploy.prepare._prepare import PASSES, at_inference
from rewrites.rewriting import AFTER, BEFORE, SCALES, check_edges, network


@settings(max_examples=6)
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
