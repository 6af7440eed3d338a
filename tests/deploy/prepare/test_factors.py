"""Positive factors: which vanish into which layers, and which stay."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, head, images, scrambled
from deploy.prepare.preparing import (
    LAYERS,
    as_written,
    audited,
    equal,
    factor,
    factors_left,
    is_factor,
    network,
    row,
    rsign_conv,
)
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._moves import absorb_factors
from larq_nobn.deploy.prepare._prepare import at_inference, prepare
from larq_nobn.deploy.prepare._reading import spell_affine
from larq_nobn.graph._copies import to_keras
from larq_nobn.rewrites._rule import once
from numpy.testing import assert_array_equal

layers = keras.layers


class AboveHalf(lq.quantizers.Quantizer):
    """A sign that is not one of zero."""

    precision = 1

    def call(self, inputs):
        return lq.math.sign(inputs - 0.5)


OWN = {
    "kernel-of-signs": lambda: lq.layers.QuantConv2D(
        8, 3, padding="same", pad_values=1.0, input_quantizer=nobn.quantizers.RSign()
    ),
    "scaled-std": lambda: lq.layers.QuantConv2D(
        8, 1, kernel_quantizer=nobn.quantizers.ScaledStdSign()
    ),
    "rescaling": lambda: layers.Rescaling([-1.0] * 32, 0.5, name="other"),
    "own-signs": lambda: binary_conv(input_quantizer=AboveHalf()),
    "product": lambda: lambda x: layers.Multiply()([x, x]),
}
# What takes in a factor before it, and one after it too.
EITHER = (
    *("rsign", "conv-relu", "kernel-of-signs", "scaled-std", "norm"),
    "rescaling",
)
BEFORE_ONLY = ("rsign-layer", "sign", "conv-tanh")
PASSES = ("rprelu", "tlu", "average", "flatten")
STOPS = ("tanh", "relu6", "conv-ones", "own-signs", "product")


def made(word):
    return {**LAYERS, **OWN}[word]()


@pytest.mark.parametrize("word", EITHER)
def test_these_hold_a_factor_on_either_side(word):
    for rows in ((factor(), made(word)), (made(word), factor())):
        assert "factor" not in factors_left(row(*rows, "tanh", scramble=True))


@pytest.mark.parametrize("word", BEFORE_ONLY)
def test_these_hold_a_factor_before_them_only(word):
    assert factors_left(row("factor", made(word), "tanh", scramble=True)) == {}
    left = factors_left(row(made(word), "factor tanh", scramble=True))
    assert left == {"factor": 0.25}


@pytest.mark.parametrize("word", PASSES)
def test_these_pass_a_factor_on(word):
    assert factors_left(row("factor", made(word), "dense", scramble=True)) == {}


@pytest.mark.parametrize("word", STOPS)
def test_before_these_a_factor_stays(word):
    model = row("factor", made(word), *head(), scramble=True)
    assert factors_left(model) == {"factor": 0.25}
    assert prepare(model).get_layer("factor").offset is None


NO_FACTORS = (*([0.0, 0.0], [-0.5, 0.0], [[0.5] * 32, 0.0], [0.5, 0.5]),)


@pytest.mark.parametrize("numbers", NO_FACTORS, ids=str)
def test_what_is_no_positive_number_stays(numbers):
    graph = at_inference(row(factor(*numbers), *head(), scramble=True))
    assert absorb_factors(graph) is graph


def test_products_written_as_such_count_too():
    for multiply in (
        lambda x: 0.25 * x,
        lambda x: tf.multiply(x, 0.25),
        lambda x: tf.multiply(x=0.25, y=x),
    ):
        assert factors_left(network(multiply)) == {}
        stopped = network(lambda x, multiply=multiply: tf.tanh(multiply(x)))
        assert len(factors_left(stopped)) == 1
    for other in (-0.25, np.ones(32, np.float32)):
        assert len(factors_left(network(lambda x, other=other: x * other))) == 1
    assert factors_left(network(lambda x: 0.5 * (0.5 * x))) == {}
    assert factors_left(network(lambda x: 0.5 * factor()(x))) == {}


@pytest.mark.parametrize(
    "ends",
    [
        lambda x: 0.25 * x,
        lambda x: factor(0.5, name="last")(factor(1 / 3)(x)),
        lambda x: [factor(0.25)(x), layers.Dense(2)(x)],
    ],
)
def test_a_factor_of_the_output_goes_into_the_kernel_before_it(ends):
    inputs = keras.Input((4,))
    model = scrambled(keras.Model(inputs, ends(layers.Dense(3)(inputs))))
    new = to_keras(once(absorb_factors(at_inference(model)), (spell_affine,)))
    assert not any(map(is_factor, equal(new, model).layers))


# --- Where maps meet.
BRANCHES = {
    "batch norm": lambda x: layers.BatchNormalization()(binary_conv()(x)),
    "rprelu": lambda x: nobn.layers.RPReLU()(rsign_conv()(x)),
    "the same factor": lambda x: layers.ReLU()(factor(name="same")(x)),
}
JOINS = {
    "difference": lambda *maps: layers.Subtract()(maps),
    "concatenation": lambda *maps: layers.Concatenate()(maps),
}


@pytest.mark.parametrize("name", [*BRANCHES, *JOINS])
def test_factors_pass_where_such_branches_are_joined(name):
    branch = BRANCHES.get(name, rsign_conv())
    join = JOINS.get(name, lambda *maps: layers.Add()(maps))
    model = network(lambda x: nobn.layers.RPReLU()(join(branch(x), factor()(x))))
    assert factors_left(model) == {}


def summed(branch):
    return network(lambda x: layers.Add()([branch(x), factor()(x)]))


@pytest.mark.parametrize(
    "branch, left",
    [
        (lambda x: layers.ReLU()(factor(2.0, name="second")(x)), {"factor": 0.125}),
        (layers.ReLU(), {"factor": 0.25}),
        (lambda x: rsign_conv(activation="tanh")(x), {"factor": 0.25}),
    ],
    ids=["a larger one", "no weights", "a convolution with tanh"],
)
def test_where_factors_cannot_pass_one_multiplication_is_left(branch, left):
    assert factors_left(summed(branch)) == left


def test_what_else_reads_the_convolution_has_to_be_signs():
    def build(x, last):
        y = rsign_conv()(x)
        return layers.Concatenate()([layers.Add()([y, factor()(x)]), last(y)])

    assert factors_left(network(lambda x: build(x, rsign_conv()))) == {}
    tanh = layers.Activation("tanh")
    assert factors_left(network(lambda x: build(x, tanh))) == {"factor": 0.25}


@pytest.mark.parametrize("word", ["rprelu", "conv-32"])
def test_a_shared_layer_is_changed_once_and_for_all_its_uses(word):
    layer = made(word)

    def alike(x):
        y = factor()(x)
        return layers.Concatenate()([layer(y), layer(layers.ReLU()(y))])

    def apart(x):
        return layers.Concatenate()([layer(x), layer(factor()(x))])

    assert factors_left(network(alike)) == {}
    assert factors_left(network(apart)) == {"factor": 0.25}


def test_a_shared_factor_vanishes_everywhere_or_nowhere():
    def build(x, last):
        shared = factor()
        other = layers.Activation(last)(shared(layers.ReLU()(x)))
        return layers.Concatenate()([rsign_conv()(shared(x)), other])

    assert factors_left(network(lambda x: build(x, "relu"))) == {}
    assert factors_left(network(lambda x: build(x, "tanh"))) == {"factor": 0.25}


# --- What else stays as it is, and what is left in a file.


def test_kernels_stay_signs_and_only_what_must_change_does():
    model = summed(binary_conv(name="conv"))
    given = model.get_weights()
    before, after = as_written(model), prepare(model)
    first, second = (m.get_layer("conv") for m in (before, after))
    assert_array_equal(first.kernel, second.kernel)
    assert first.scale is None
    assert_array_equal(second.scale, np.full(32, 4.0))
    head_before, head_after = (m.get_layer("head") for m in (before, after))
    assert_array_equal(head_before.bias, head_after.bias)
    assert_array_equal(head_before.kernel * 0.25, head_after.kernel)
    assert model.get_layer("factor").scale == 0.25
    for old, new in zip(given, model.get_weights(), strict=True):
        assert_array_equal(new, old)


def reactnet_a(scaled):
    """A block of stride 2 and twice as wide, after a stem and before a head."""
    sign, kernel = nobn.quantizers.RSign, nobn.quantizers.ScaledStdSign
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same", name="stem")(inputs)
    options = {"input_quantizer": sign(0.96), "kernel_quantizer": kernel(scale=0.2)}
    conv = binary_conv(strides=2, **options)
    shortcut = layers.AveragePooling2D()(factor(0.96)(x) if scaled else x)
    h = nobn.layers.RPReLU()(layers.Add()([conv(x), shortcut]))
    t, halves = sign(0.95)(h), []
    for _ in range(2):
        half = binary_conv(
            32, 1, input_quantizer=None, kernel_quantizer=kernel(scale=0.2)
        )
        halves.append(layers.Add()([half(t), h]))
    x = nobn.layers.RPReLU()(layers.Concatenate()(halves))
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x))


@pytest.mark.convert
def test_scaled_shortcuts_cost_nothing(tmp_path):
    model = reactnet_a(scaled=True)
    assert audited(as_written(model)).ops["MUL"] == 1
    x = images(16, (8, 8, 3))
    report = nobn.convert(model, tmp_path / "model.tflite", data=x)
    counts = {op["op"]: op["count"] for op in report.float_ops}
    unscaled = audited(prepare(reactnet_a(scaled=False))).ops
    assert counts == {op: n for op, n in unscaled.items() if not op.startswith("Lce")}
    assert "MUL" not in counts
    assert report.lce_bconv2d == 3
    assert report.verify["unexplained"] == 0
    assert report.verify["prepared"]["unexplained"] == 0
