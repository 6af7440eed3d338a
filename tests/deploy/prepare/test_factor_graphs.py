"""Positive factors in networks: where maps meet, and of shared layers."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head
from deploy.prepare.factor_nets import (
    SHAPE,
    as_written,
    factor,
    factors_left,
    is_factor,
    network,
    rsign_conv,
)
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._moves import absorb_factors
from larq_nobn.deploy.prepare._prepare import at_inference, prepare
from numpy.testing import assert_array_equal

_layers, _nobn = keras.layers, nobn.layers


BRANCHES = {
    "binary convolution": lambda x: binary_conv()(x),
    "batch norm": lambda x: _layers.BatchNormalization()(binary_conv()(x)),
    "convolution": lambda x: _layers.Conv2D(32, 1)(x),
    "rprelu": lambda x: _nobn.RPReLU()(rsign_conv()(x)),
    "the same factor": lambda x: _layers.ReLU()(factor(name="same")(x)),
}
JOINS = {
    "sum": lambda *maps: _layers.Add()(maps),
    "difference": lambda *maps: _layers.Subtract()(maps),
    "maximum": lambda *maps: _layers.Maximum()(maps),
    "concatenation": lambda *maps: _layers.Concatenate()(maps),
    "sum as written": lambda first, second: first + second,
    "difference as written": lambda first, second: tf.subtract(first, second),
}


def joined(branch, join):
    def build(x):
        return _nobn.RPReLU()(join(branch(x), factor()(x)))

    return network(build)


@pytest.mark.parametrize("name", BRANCHES)
def test_these_branches_come_to_the_factor_of_the_shortcut(name):
    assert factors_left(joined(BRANCHES[name], JOINS["sum"])) == {}


@pytest.mark.parametrize("name", JOINS)
def test_at_these_joins_one_factor_passes(name):
    assert factors_left(joined(rsign_conv(), JOINS[name])) == {}


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_two_factors_that_meet_leave_one_multiplication(scale):
    def build(x):
        second = _layers.ReLU()(factor(scale, name="second")(x))
        return _layers.Add()([_layers.ReLU()(factor()(x)), second])

    assert factors_left(network(build)) == {"factor": 0.25 / scale}


def test_a_branch_without_weights_keeps_the_factor_of_the_other():
    def build(x):
        return _layers.Add()([_layers.ReLU()(x), factor()(x)])

    assert factors_left(network(build)) == {"factor": 0.25}


def test_a_convolution_that_ends_in_tanh_cannot_meet_a_factor():
    def build(x):
        return _layers.Add()([rsign_conv(activation="tanh")(x), factor()(x)])

    assert factors_left(network(build)) == {"factor": 0.25}


def test_a_convolution_may_be_read_by_signs_besides():
    def build(x):
        y = rsign_conv()(x)
        total = _layers.Add()([y, factor()(x)])
        return _layers.Concatenate()([total, rsign_conv()(y)])

    assert factors_left(network(build)) == {}


def test_a_convolution_that_is_read_as_it_is_cannot_meet_a_factor():
    def build(x):
        y = rsign_conv()(x)
        total = _layers.Add()([y, factor()(x)])
        return _layers.Concatenate()([total, _layers.Activation("tanh")(y)])

    assert factors_left(network(build)) == {"factor": 0.25}


@pytest.mark.parametrize(
    "layer",
    [_nobn.RPReLU(), _layers.Conv2D(32, 1), rsign_conv(), nobn.quantizers.RSign()],
)
def test_a_shared_layer_is_changed_once_and_for_all_its_uses(layer):
    def alike(x):
        y = factor()(x)
        return _layers.Concatenate()([layer(y), layer(_layers.ReLU()(y))])

    def apart(x):
        return _layers.Concatenate()([layer(x), layer(factor()(x))])

    assert factors_left(network(alike)) == {}
    assert factors_left(network(apart)) == {"factor": 0.25}


def test_a_shared_layer_without_weights_may_see_several_factors():
    pool = _layers.MaxPooling2D()

    def build(x):
        first, second = rsign_conv()(pool(x)), rsign_conv()(pool(factor()(x)))
        return _layers.Add()([first, second])

    assert factors_left(network(build)) == {}


def test_a_shared_factor_vanishes_everywhere_or_nowhere():
    def build(x, last):
        shared = factor()
        other = _layers.Activation(last)(shared(_layers.ReLU()(x)))
        return _layers.Concatenate()([rsign_conv()(shared(x)), other])

    assert factors_left(network(lambda x: build(x, "relu"))) == {}
    assert factors_left(network(lambda x: build(x, "tanh"))) == {"factor": 0.25}


def test_chains_of_products_written_as_such_vanish_together():
    assert factors_left(network(lambda x: 0.5 * (0.5 * x))) == {}
    assert factors_left(network(lambda x: 0.5 * factor()(x))) == {}


def test_kernels_stay_signs_and_only_what_must_change_does():
    def build(x):
        return _layers.Add()([binary_conv(name="conv")(x), factor()(x)])

    model = network(build)
    before, after = as_written(model), prepare(model)
    first, second = (m.get_layer("conv") for m in (before, after))
    assert_array_equal(first.kernel, second.kernel)
    assert first.scale is None
    assert_array_equal(second.scale, np.full(32, 4.0))
    head_before, head_after = (m.get_layer("head") for m in (before, after))
    assert_array_equal(head_before.bias, head_after.bias)
    assert_array_equal(head_before.kernel * 0.25, head_after.kernel)


def test_after_the_signs_of_a_factor_integers_stay_integers():
    conv = binary_conv(name="conv")
    model = chain(factor(), conv, *head(), stem=False, shape=SHAPE)
    assert factors_left(model) == {}
    assert prepare(model).get_layer("conv").scale is None


def test_the_given_model_keeps_its_factors_and_weights():
    model = chain(factor(), rsign_conv(), *head(), stem=False, shape=SHAPE)
    before = model.get_weights()
    prepare(model)
    assert model.get_layer("factor").scale == 0.25
    for old, new in zip(before, model.get_weights(), strict=True):
        assert_array_equal(old, new)


def test_a_model_without_factors_is_left_alone():
    graph = at_inference(chain(rsign_conv(), _nobn.RPReLU(), *head()))
    assert absorb_factors(graph) is graph


BRICKS = [
    lambda a, b, name: factor(2.0, name=name)(a),
    lambda a, b, name: factor(0.5, name=name)(a),
    lambda a, b, name: rsign_conv(name=name)(a),
    lambda a, b, name: _nobn.RPReLU(name=name)(a),
    lambda a, b, name: _layers.BatchNormalization(name=name)(a),
    lambda a, b, name: _layers.Conv2D(32, 1, name=name)(a),
    lambda a, b, name: _layers.MaxPooling2D(3, 1, padding="same", name=name)(a),
    lambda a, b, name: _layers.Add(name=name)([a, b]),
    lambda a, b, name: _layers.Maximum(name=name)([a, b]),
    lambda a, b, name: _layers.Activation("tanh", name=name)(a),
]


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_keep_their_function(seed):
    random = np.random.default_rng(seed)

    def build(x):
        maps = [x]
        for index in range(15):
            first, second = (maps[-min(len(maps), d)] for d in random.integers(1, 5, 2))
            maps.append(random.choice(BRICKS)(first, second, f"brick{index}"))
        return maps[-1]

    model = network(build)
    written = sum(is_factor(layer) for layer in as_written(model).layers)
    assert len(factors_left(model)) <= written
