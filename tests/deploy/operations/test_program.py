"""Rewriting values of a program, and what says that a rule went wrong or misses."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from deploy.operations.programs import check_together
from larq_nobn._keras import keras
from larq_nobn.deploy.lite._converter import io_spec
from larq_nobn.deploy.operations import (
    _binary,
    _int8,
    _lower,
    _rules,
    stages_of,
)
from larq_nobn.deploy.operations._kinds import (
    Affine,
    InvalidProgram,
    Joined,
    Kernel,
    Sign,
    Sum,
    Value,
)
from larq_nobn.deploy.operations._program import (
    Program,
    everywhere,
    repeated_kernels,
    why_not,
)
from larq_nobn.deploy.operations._rules import into_maker, into_sign, scale_into_all
from larq_nobn.deploy.trace._trace import Trace

layers = keras.layers


def values(count):
    return [Value((1, 4, 4, 3), tf.float32) for _ in range(count)]


def row():
    """x, 2 x and 3 (2 x), of which the last two are outputs."""
    x, double, six = values(3)
    nodes = [Affine("a", (x,), (double,), 2.0), Affine("b", (double,), (six,), 3.0)]
    return Program([x], nodes, [double, six]), (x, double, six)


def test_readers_and_outputs_move_together():
    program, (x, double, six) = row()
    moved = program.replace(double, x)
    assert moved.outputs == (x, six)
    assert [node.name for node in moved.nodes] == ["b"]
    assert moved.nodes[0].reads == (x,)


def test_new_nodes_read_what_they_are_given():
    program, (x, double, six) = row()
    (shifted,) = values(1)
    node = Affine("c", (double,), (shifted,), 1.0, 5.0)
    moved = program.with_nodes([], [node], {double: shifted})
    assert moved.outputs == (shifted, six)
    assert moved.maker(six).x is shifted
    assert moved.maker(shifted).x is double


def test_what_nothing_makes_is_named():
    x, y, z = values(3)
    with pytest.raises(InvalidProgram, match="what an output is"):
        Program([x], [], [y])
    with pytest.raises(InvalidProgram, match=r"what node 'total' \(Sum\) reads"):
        Program([x], [Sum("total", (x, y), (z,))], [z])


def test_equal_binary_kernels_are_repeated_whatever_follows_them():
    """The converter merges them, before their scales and biases."""
    x, signs, one, two, other, end = values(6)
    weights = np.sign(np.random.default_rng(0).normal(size=(1, 1, 3, 3)))
    rows = {"a": weights.astype("f4"), "b": weights, "c": -weights}
    scales = {"a": 1.0, "b": [1.0, 2.0, 3.0], "c": 1.0}
    nodes = [Sign("sign", (x,), (signs,))] + [
        Kernel(name, (signs,), (y,), rows[name], scale=scales[name], binary=True)
        for name, y in zip(rows, (one, two, other), strict=True)
    ]
    total = Joined("all", (one, two, other), (end.of_channels(9),))
    program = Program([x], [*nodes, total], total.makes)
    assert [node.name for node in repeated_kernels(program)] == ["b"]


def test_a_wrong_rule_is_named():
    def forgetful(program, node):
        return program.with_nodes([node], [])

    program, _ = row()
    with pytest.raises(InvalidProgram, match=r"'forgetful' at node 'a' \(Affine\)"):
        everywhere(program, [forgetful])


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda x, y: Affine("a", (x,), (y,), [1.0, 2.0]), "2 numbers in 'k' for 3"),
        (lambda x, y: Sign("a", (x,), (y,), np.ones(4)), "4 numbers in 'shift' for 3"),
        (
            lambda x, y: Kernel(
                "a", (x,), (y,), np.ones((1, 1, 3, 3)), bias=[1.0, 2.0]
            ),
            "2 numbers in 'bias' for 3",
        ),
        (lambda x, y: Kernel("a", (x,), (y,), np.ones((3, 3, 3, 5))), "for 3 channels"),
    ],
)
def test_numbers_fit_the_channels(made, said):
    with pytest.raises(InvalidProgram, match=f"Node 'a' .*{said}"):
        made(*values(2))


def test_a_rule_says_why_it_does_not_fit():
    program, (x, *_) = row()
    first, second = program.nodes
    assert "alone" in why_not(program, second, into_maker)  # 2 x is an output
    alone = Program([x], program.nodes, second.makes)
    assert why_not(alone, second, into_maker) == ""
    assert "alone" in why_not(alone, first, into_maker)
    assert "output" in why_not(program, second, scale_into_all)
    assert "of kind Affine" in why_not(program, second, into_sign)


def negative():
    return layers.BatchNormalization(
        gamma_initializer=keras.initializers.Constant(-0.5),
        beta_initializer="ones",
        moving_mean_initializer="ones",
    )


# What of a sign after a negative factor is an output, beside a binary convolution.
ENDS = {
    "the sign": lambda x, y: [y],
    "the sign twice": lambda x, y: [y, y],
    "what it is of": lambda x, y: [x],
    "a reshaped sign": lambda x, y: [layers.Flatten()(y)],
    "a padded sign": lambda x, y: [layers.ZeroPadding2D()(y)],
    "its pool": lambda x, y: [layers.MaxPooling2D()(y), y],
    "a second sign": lambda x, y: [nobn.quantizers.RSign(0.5)(x)],
}


@pytest.mark.convert
def test_signs_after_negative_factors_can_be_outputs():
    def model(ends):
        start = keras.Input((8, 8, 8))
        x = negative()(start)
        y = layers.Activation("ste_sign")(x)
        conv = binary_conv(8, padding="valid", input_quantizer=None)(y)
        return keras.Model(start, [*ends(x, y), conv])

    keras.utils.set_random_seed(0)
    models = {name: model(ends) for name, ends in ENDS.items()}
    check_together(models, np.float32(images(1, (8, 8, 8))), 1e-6)


RULES = [
    function
    for module in (_binary, _int8, _lower, _rules)
    for function in vars(module).values()
    if getattr(function, "__annotations__", {}).get("return") == "Edit"
    and function.__module__ == module.__name__
    and "between" not in function.__annotations__  # what rules share
    and "first" not in function.__annotations__
]


def test_every_rule_fits_or_says_why():
    start = keras.Input((8, 8, 8))
    x = layers.ReLU()(negative()(binary_conv(8, groups=2, pad_values=0.0)(start)))
    x = layers.MaxPooling2D()(layers.Activation("tanh")(x))
    x = binary_conv(8, input_quantizer=nobn.quantizers.RSign(0.5))(x) + x
    x = layers.Flatten()(layers.PReLU(shared_axes=[1, 2])(x))
    model = keras.Model(start, layers.Dense(3)(negative()(x)))
    stages = stages_of(Trace(model, io_spec(model)), "lce")
    assert len(RULES) > 55
    for program in (stages.lowered.program, stages.merged, stages.spelled):
        for node in program.nodes:
            said = [why_not(program, node, rule) for rule in RULES]
            assert all(isinstance(reason, str) for reason in said)
            assert all(reason.strip(".") == reason for reason in said)
            assert sum(reason != "" for reason in said) > len(RULES) / 2
