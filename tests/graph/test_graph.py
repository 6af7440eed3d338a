"""Graphs of models: read and built again exactly, and edited without a trace."""

import larq as lq
import numpy as np
import pytest
from _fuzz.networks import draw
from larq_nobn._keras import keras
from larq_nobn.graph._copies import to_keras
from larq_nobn.graph._graph import Graph
from larq_nobn.graph._models import flat, from_keras
from larq_nobn.graph._operation import Operation
from larq_nobn.quantizers import RSign
from numpy.testing import assert_array_equal
from surgery.properties import inputs_of, outputs_of, untouched
from surgery.subjects import subject

layers = keras.layers


def check_round_trip(model):
    """Built again, a model is the same in all but identity."""
    with untouched(model):
        given, made = flat(model), to_keras(from_keras(model))
    assert [x.name for x in made.layers] == [x.name for x in given.layers]
    assert [type(x) for x in made.layers] == [type(x) for x in given.layers]
    assert not {id(x) for x in made.submodules} & {id(x) for x in given.submodules}
    for was, now in zip(given.layers, made.layers, strict=True):
        assert now.trainable == was.trainable
        assert now.dtype_policy.name == was.dtype_policy.name
        assert len(now.inbound_nodes) <= len(was.inbound_nodes)
        constraints = (getattr(x, "kernel_constraint", None) for x in (was, now))
        assert len(set(map(type, constraints))) == 1
        assert len(now.trainable_weights) == len(was.trainable_weights)
        for old, new in zip(was.get_weights(), now.get_weights(), strict=True):
            assert_array_equal(new, old)
    uses, again = (
        {name: len(graph.uses(name)) for name in {c.name for c in graph.calls}}
        for graph in (Graph(given), Graph(made))
    )
    assert again == uses
    x = inputs_of(model, 4)
    for was, now in zip(outputs_of(model, x), outputs_of(made, x), strict=True):
        assert_array_equal(now, was)


def test_a_drawn_model_is_built_again_as_it_is():
    check_round_trip(draw(9).model)


@pytest.mark.parametrize("name", ["opaque", "shared"])
def test_networks_of_users_are_built_again_as_they_are(name):
    check_round_trip(subject(name))


def two_uses():
    """One convolution on two maps, with a sign inside, and an operator."""
    conv = lq.layers.QuantConv2D(
        4,
        3,
        padding="same",
        input_quantizer=RSign(),
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        name="conv",
    )
    x = keras.Input((6, 6, 4))
    return keras.Model(x, conv(0.5 * conv(x)) - x)


@pytest.mark.parametrize("before, after, turned", [(1, 2, True), (3, 1, False)])
def test_uses_are_numbered_in_the_order_of_the_calls(before, after, turned):
    """However deep they lie, which decides in what order Keras lists them."""
    conv = layers.Conv2D(4, 1, name="conv")
    x = keras.Input((2, 2, 4))
    given = x
    for number in range(before):
        given = layers.ReLU(name=f"relu_{number}")(given)
    first = conv(x)
    ends = [conv(given), conv(layers.Dropout(0.5, name="dropped")(x))]
    for _ in range(after):
        first = layers.Softmax()(first)
    ends = [first, *ends]
    model = keras.Model(x, layers.Add()(ends[::-1] if turned else ends))
    graph = from_keras(model)
    row = [Operation(f"new_{number}", layers.ReLU) for number in range(3)]
    longer = to_keras(graph.with_row("dropped", row))
    read = ["", f"relu_{before - 1}", "dropped"]
    pairs = [(model, read), (to_keras(graph), read), (longer, [*read[:2], "new_2"])]
    for made, expected in pairs:
        graph = Graph(made)
        uses = graph.uses("conv")
        assert [use.label for use in uses] == [f"conv (use {n})" for n in (1, 2, 3)]
        makers = [graph.producer(use.first_input) for use in uses]
        assert [maker.name if maker else "" for maker in makers] == expected


def test_an_edit_makes_another_graph():
    model = two_uses()
    graph = from_keras(model)
    operation = graph.uses("conv")[0].operation
    double = operation.replaced({"bias": np.full(4, 2.0)}, {"use_bias": True})
    with untouched(model):
        edited = to_keras(graph.with_operation(double))
    assert graph.uses("conv")[0].operation is operation
    assert_array_equal(edited.get_layer("conv").bias, np.full(4, 2.0))
    again = to_keras(graph)
    x = inputs_of(model, 4)
    for was, now in zip(outputs_of(model, x), outputs_of(again, x), strict=True):
        assert_array_equal(now, was)


def test_an_output_is_no_sole_use():
    x = keras.Input((4,))
    y = layers.Dense(4, name="first")(x)
    graph = from_keras(keras.Model(x, [y, layers.ReLU()(y)]))
    assert graph.sole_consumer(graph.uses("first")[0].first_output) is None
