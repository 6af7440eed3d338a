"""Learning rates by group: the rule, and every optimizer of Keras."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.callbacks._clipping import clipping_in
from larq_nobn.optimizers import AdaptiveGradientClipping, ParameterGroups
from larq_nobn.optimizers._groups import factors_by_name
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.networks import apply, assert_close, gradients, numpy, variables

new = keras.optimizers
MULTIPLIERS = {"^gain:0$": 4.0, "^head/": 0.25}
FACTORS = (1.0, 4.0, 0.25)
# A step is rounded before it is multiplied: up to 2.5 units in the last place for 4.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def scheduled():
    return new.SGD(new.schedules.ExponentialDecay(0.1, 1, 0.5), momentum=0.9)


def decaying():
    optimizer = new.AdamW(0.1, weight_decay=0.2, clipnorm=0.5)
    optimizer.exclude_from_weight_decay(var_names=["head"])
    return optimizer


OPTIMIZERS = {
    "sgd": new.SGD,
    "schedule": scheduled,
    "decay": decaying,
    "rmsprop": lambda: new.RMSprop(0.1, momentum=0.9, centered=True),
    **{name: getattr(new, name) for name in ("Adafactor", "Adam", "Ftrl", "Lion")},
}


def apply_by_hand(optimizer, raw, weights, factors):
    """One step of a plain optimizer, whose movements are then multiplied in NumPy."""
    start = [weight.numpy().astype("float64") for weight in weights]
    optimizer.apply_gradients(list(zip(raw, weights, strict=True)))
    for before, weight, factor in zip(start, weights, factors, strict=True):
        if factor != 1:
            weight.assign(before + factor * (weight.numpy() - before))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_movements_are_multiplied_whatever_the_optimizer(name):
    ours, theirs = variables(), variables()
    groups = ParameterGroups(OPTIMIZERS[name](), MULTIPLIERS)
    plain = OPTIMIZERS[name]()
    for seed in range(3):
        apply(groups, gradients(seed), ours)
        apply_by_hand(plain, gradients(seed), theirs, FACTORS)
        assert_close(numpy(ours), numpy(theirs), **CLOSE)
    assert_array_equal(ours[0], theirs[0])  # in no group
    assert int(groups.iterations) == 3


def test_a_factor_of_zero_freezes():
    weights = variables()
    start = numpy(weights)
    groups = ParameterGroups(new.AdamW(0.1, weight_decay=0.2), {"^conv/": 0})
    raw = gradients()
    raw[1][:] = np.nan
    apply(groups, raw, weights)
    assert_array_equal(weights[0], start[0])
    assert_array_equal(weights[1], start[1])
    assert np.all(weights[2].numpy() != start[2])


def test_the_first_pattern_counts_and_only_the_last_part_need_match():
    names = ["conv/gain:0", "net/head/kernel:0", "gain:0", "again:0", "conv/bias:0"]
    names = [(name,) for name in names]
    multipliers = {"^gain:0$": 4.0, "^head/": 0.5, "^conv/": 2.0, "gain|head": 3.0}
    assert factors_by_name(multipliers, names) == [4.0, 0.5, 4.0, 3.0, 2.0]
    assert factors_by_name({}, names) == [1.0] * 5


def test_constraints_come_after_the_scaling():
    weight = tf.Variable([0.9, -0.9], name="w", constraint=lq.constraints.WeightClip(1))
    apply(ParameterGroups(new.SGD(1.0), {"w": 0.5}), [[-0.4, 0.1]], [weight])
    assert_allclose(weight, [1.0, -0.95])  # 0.95 if it came before


def test_moving_averages_are_those_of_the_scaled_steps():
    weight = tf.Variable([1.0, 2.0], name="w")
    inner = new.SGD(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=None)
    groups = ParameterGroups(inner, {"w": 3.0})
    for _ in range(2):
        apply(groups, [[0.5, 0.25]], [weight])
    assert_allclose(weight, [-2.0, 0.5])
    groups.finalize_variable_values([weight])
    # Halfway from 1 to -0.5 to -2, and from 2 to 1.25 to 0.5.
    assert_allclose(weight, [-0.875, 1.0625])


def clipped(inner):
    return AdaptiveGradientClipping(inner, 0.02, exclude=())


@pytest.mark.parametrize(
    "nest, name",
    [
        (lambda inner: ParameterGroups(clipped(inner), MULTIPLIERS), "sgd"),
        (lambda inner: clipped(ParameterGroups(inner, MULTIPLIERS)), "decay"),
    ],
    ids=["outside", "inside"],
)
def test_clipping_sees_gradients_that_are_not_scaled(nest, name):
    ours, theirs = variables(), variables()
    optimizer = nest(OPTIMIZERS[name]())
    plain = clipped(OPTIMIZERS[name]())
    for seed in range(2):
        apply(optimizer, gradients(seed), ours)
        apply_by_hand(plain, gradients(seed), theirs, FACTORS)
        assert_close(numpy(ours), numpy(theirs), **CLOSE)
    assert [type(wrapper) for wrapper in clipping_in(optimizer)] == [type(plain)]
    restored = new.deserialize(new.serialize(optimizer))
    assert restored.get_config() == optimizer.get_config()
