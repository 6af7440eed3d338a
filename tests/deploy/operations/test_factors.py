"""Positive factors: which vanish into which layers, and which stay."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, head, scrambled
from deploy.operations.programs import (
    LAYERS,
    check_together,
    factor,
    factors_left,
    network,
    row,
    rsign_conv,
)
from larq_nobn._keras import keras

layers = keras.layers


OWN = {
    "kernel-of-signs": lambda: lq.layers.QuantConv2D(
        8, 3, padding="same", pad_values=1.0, input_quantizer=nobn.quantizers.RSign()
    ),
    "scaled-std": lambda: lq.layers.QuantConv2D(
        8, 1, kernel_quantizer=nobn.quantizers.ScaledStdSign()
    ),
    "product": lambda: lambda x: layers.Multiply()([x, x]),
    "quotient": lambda: lambda x: 1 / (2 + tf.tanh(x)),
}
# What takes in a factor before it, and one after it too.
EITHER = ("rsign", "conv-relu", "kernel-of-signs", "scaled-std")
BEFORE_ONLY = ("rsign-layer", "sign", "conv-tanh")
PASSES = ("rprelu", "average", "flatten")
STOPS = ("tanh", "relu6", "conv-ones", "product", "quotient")


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


def test_products_written_as_such_count_too():
    for multiply in (
        lambda x: 0.25 * x,
        lambda x: tf.multiply(x, 0.25),
        lambda x: tf.multiply(x=0.25, y=x),
        lambda x: -0.25 * x,
        lambda x: x / 4,
        lambda x: 1 - x,
    ):
        assert factors_left(network(multiply)) == {}
        stopped = network(lambda x, multiply=multiply: tf.tanh(multiply(x)))
        assert len(factors_left(stopped)) == 1
    assert factors_left(network(lambda x: 0.5 * (0.5 * x))) == {}
    assert factors_left(network(lambda x: 0.5 * factor()(x))) == {}


@pytest.mark.parametrize(
    "ends",
    [
        lambda x: 0.25 * x,
        lambda x: factor(0.5, name="last")(factor(1 / 3)(x)),
    ],
)
def test_a_factor_of_the_output_goes_into_the_kernel_before_it(ends):
    inputs = keras.Input((4,))
    model = scrambled(keras.Model(inputs, ends(layers.Dense(3)(inputs))))
    assert factors_left(model) == {}


# --- Where maps meet.
BRANCHES = {
    "batch norm": lambda x: layers.BatchNormalization()(binary_conv()(x)),
    "rprelu": lambda x: nobn.layers.RPReLU()(rsign_conv()(x)),
}
JOINS = {
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
        (layers.ReLU(), {"factor": 0.25}),
        (lambda x: rsign_conv(activation="tanh")(x), {"factor": 0.25}),
    ],
    ids=["no weights", "a convolution with tanh"],
)
def test_where_factors_cannot_pass_one_multiplication_is_left(branch, left):
    assert factors_left(summed(branch)) == left


NUMBERS = np.linspace(0.5, 2, 32, dtype="float32")


def rate(x):
    """One number an example, as norms of it have them."""
    return tf.math.rsqrt(1 + tf.reduce_mean(x * x, [1, 2, 3], keepdims=True))


PRODUCTS = {
    "numbers last": lambda x: x * (rate(x) * NUMBERS),
    "numbers first": lambda x: (NUMBERS * rate(x)) * x,
    "before a shift": lambda x: x * (rate(x) * NUMBERS) - NUMBERS,
    "before a ReLU": lambda x: tf.nn.relu(x * (rate(x) * NUMBERS) + 1),
    "before a leaky ReLU": lambda x: tf.nn.leaky_relu(x * (rate(x) * NUMBERS) - 1),
    "before a PReLU": lambda x: layers.PReLU("ones", shared_axes=[1, 2])(
        x * (rate(x) * NUMBERS)
    ),
}
# A square has no numbers; of a negative one, a ReLU is another. Of three maps, one
# has numbers already.
OTHERS = {
    "of three": lambda x: (
        (tf.sigmoid(x) * (rate(x) * (NUMBERS * tf.tanh(x)))) * NUMBERS
    ),
    "a square": lambda x: 3 * tf.nn.leaky_relu(x * x),
    "a negative factor": lambda x: -3 * PRODUCTS["before a leaky ReLU"](x),
}


def test_a_factor_after_a_product_goes_into_its_numbers():
    inputs = keras.Input((4, 4, 32))
    random = np.random.default_rng(0)
    x = (2 * random.normal(size=(2, 4, 4, 32))).astype("float32")
    models = {
        name: keras.Model(inputs, tf.tanh(product(inputs) * NUMBERS[::-1]))
        for name, product in PRODUCTS.items()
    }
    for name, model in models.items():
        assert factors_left(model) == {}, name
    for name, product in OTHERS.items():
        models[name] = keras.Model(inputs, tf.tanh(product(inputs)))
        assert len(factors_left(models[name])) == 1, name

    def twice(x):
        product = PRODUCTS["numbers last"](x)
        return tf.tanh(product * NUMBERS[::-1]) + tf.cos(product)

    models["read twice"] = keras.Model(inputs, twice(inputs))
    assert len(factors_left(models["read twice"])) == 1
    check_together(models, x, 1e-5)


def test_a_shared_factor_vanishes_everywhere_or_nowhere():
    def build(x, last):
        shared = factor()
        other = layers.Activation(last)(shared(layers.ReLU()(x)))
        return layers.Concatenate()([rsign_conv()(shared(x)), other])

    assert factors_left(network(lambda x: build(x, "relu"))) == {}
    assert factors_left(network(lambda x: build(x, "tanh"))) == {"factor": 0.25}
