"""Affine operations that the parts of a concatenation take over."""

import pytest
from deploy.operations.programs import operations
from hypothesis import given, settings
from hypothesis import strategies as st
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.rewrites._after_quantized import affine_after_quantized_kernel
from larq_nobn.rewrites._concatenation import affine_before_concatenation
from larq_nobn.rewrites._kernel_before import affine_into_kernel_before
from larq_nobn.rewrites._rule import Edit, Refusal
from rewrites.rewriting import (
    BEFORE,
    SCALES,
    SHAPE,
    affine_in,
    check_edges,
    graph_of,
    randomized,
)
from surgery.folding import floatx

layers = keras.layers
RULE = affine_before_concatenation(
    (affine_into_kernel_before, affine_after_quantized_kernel)
)
PARTS = ("conv", "depthwise", "transposed", "binary", "magnitude")


def joined(parts, scales, pool=False, seed=0, last=layers.ReLU):
    """Parts side by side, perhaps a pool, a batch norm and what reads it."""
    with dtype_policy("float64"), floatx("float64"):
        x = keras.Input(SHAPE)
        maps = []
        for kind in parts:
            y = x
            for layer in BEFORE[kind]():
                y = layer(y)
            more = y.shape[1] - 6
            maps.append(layers.Cropping2D(((0, more), (0, more)))(y) if more else y)
        y = layers.Concatenate(name="join")(maps)
        y = layers.MaxPooling2D(2)(y) if pool else y
        y = layers.BatchNormalization(name="norm")(y)
        model = keras.Model(x, layers.Conv2D(3, 1, padding="same")(last()(y)))
    return randomized(model, scales, seed=seed)


@settings(max_examples=3)
@given(
    st.lists(st.sampled_from(PARTS), min_size=2, max_size=3),
    st.sampled_from(sorted(SCALES)),
    st.booleans(),
)
def test_every_part_takes_its_own(parts, scales, pool):
    graph = graph_of(joined(parts, scales, pool))
    outcome = RULE(graph, affine_in(graph))
    if pool and scales in ("mixed", "negative"):
        assert isinstance(outcome, Refusal) and "are negative" in outcome.reason
        return
    assert isinstance(outcome, Edit), outcome
    assert outcome.graph.uses("norm") == []
    assert check_edges(graph, outcome.graph)


def test_a_part_that_cannot_rejects_for_all():
    graph = graph_of(joined(("conv", "rectified"), "positive"))
    outcome = RULE(graph, affine_in(graph))
    assert isinstance(outcome, Refusal) and "has an activation" in outcome.reason


@pytest.mark.convert
def test_nothing_of_it_is_left_in_a_file():
    """Before a tanh, a scale and a bias would be two operations."""
    keras.utils.set_random_seed(0)
    x = keras.Input(SHAPE)
    maps = [layers.Conv2D(4, 1)(x), layers.Conv2D(8, 3, padding="same")(x)]
    y = layers.BatchNormalization(name="norm")(layers.Concatenate()(maps))
    y = layers.Activation("tanh")(y)
    model = randomized(keras.Model(x, layers.Conv2D(3, 1)(y)), "mixed")
    found = operations(model)
    assert "MUL" not in found and "ADD" not in found
