"""What the tests of folding share: models and their comparison."""

from contextlib import contextmanager

import larq_nobn as nobn
import numpy as np
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph import is_batch_norm
from numpy.testing import assert_array_equal

BatchNorm = keras.layers.BatchNormalization


def chain(*layers, shape=(8, 8, 4), name="chain"):
    """A model of new layers like the given ones, in a row, of the policy in force."""
    rows = [type(x).from_config(_of_policy(x.get_config())) for x in layers]
    return keras.Sequential([keras.Input(shape), *rows], name=name)


def _of_policy(config):
    if not isinstance(config, dict):
        return config
    policy = keras.mixed_precision.global_policy().name
    return {
        key: policy if key == "dtype" else _of_policy(value)
        for key, value in config.items()
    }


def randomize(model, seed=0):
    """Gives every weight a random value; gains of batch norms have both signs."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = random.normal(size=weight.shape)
        if "variance" in weight.name or "stddev" in weight.name:
            value = random.uniform(0.5, 2, weight.shape)
        if "gamma" in weight.name:
            value = random.uniform(0.5, 1.5, weight.shape) * np.sign(value)
        weight.assign(value)
    return model


def make_positive(model):
    """Gives every gain of a batch norm its magnitude."""
    for weight in model.weights:
        if "gamma" in weight.name:
            weight.assign(np.abs(weight))
    return model


def difference(model, other):
    """The largest difference of two models, relative to the largest output."""
    random = np.random.default_rng(1)
    x = [random.normal(size=(4, *given.shape[1:])) for given in model.inputs]
    expected, got = map(_flat, (model(x), other(x)))
    return np.max(np.abs(got - expected)) / np.max(np.abs(expected))


def _flat(outputs):
    return np.concatenate([np.ravel(y) for y in tf.nest.flatten(outputs)])


@contextmanager
def floatx(name):
    """Inputs of a type; a model inside a model casts to that of its own."""
    keras.backend.set_floatx(name)
    try:
        yield
    finally:
        keras.backend.set_floatx("float32")


TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


def fold(build, positive=False, rounded=False):
    """Folds a model in float64, if `rounded` in float32 too, and returns the last one.

    In float64 nothing can hide after a sign that rounding flips. What float32 may do
    to values lies where they go: every place is tried in it, not every way there.
    """
    for policy in list(TOLERANCE)[: 1 + rounded]:
        with dtype_policy(policy), floatx(policy):
            model = randomize(build())
        if positive:
            make_positive(model)
        folded, report = fold_untouched(model)
        assert difference(model, folded) < TOLERANCE[policy]
        assert not any(is_batch_norm(layer) for layer in folded.submodules)
        assert folded.name == model.name
    return folded, {change.layer: change for change in report.changes}


def fold_untouched(model):
    """Folds a model, and checks that it is as it was."""
    before = model.get_weights(), [weight.name for weight in model.weights]
    nodes = [len(layer.inbound_nodes) for layer in model.layers]
    folded, report = nobn.fold_batch_norm(model, return_report=True)
    for given, now in zip(before[0], model.get_weights(), strict=True):
        assert_array_equal(now, given)
    assert [weight.name for weight in model.weights] == before[1]
    assert [len(layer.inbound_nodes) for layer in model.layers] == nodes
    assert not {id(x) for x in model.submodules} & {id(x) for x in folded.submodules}
    return folded, report
