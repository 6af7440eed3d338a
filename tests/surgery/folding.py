"""What the tests of folding share: models and their comparison."""

import larq_nobn as nobn
import numpy as np
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.surgery._batch_norm import is_batch_norm
from numpy.testing import assert_array_equal

BatchNorm = keras.layers.BatchNormalization


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


def inputs_of(model, seed=1, count=4):
    random = np.random.default_rng(seed)
    found = [random.normal(size=(count, *given.shape[1:])) for given in model.inputs]
    return found[0] if len(found) == 1 else found


def difference(model, other):
    """The largest difference of two models, relative to the largest output."""
    x = inputs_of(model)
    expected, got = map(_flat, (model(x), other(x)))
    return np.max(np.abs(got - expected)) / np.max(np.abs(expected))


def _flat(outputs):
    return np.concatenate([np.ravel(y) for y in tf.nest.flatten(outputs)])


def fold(build, positive=False):
    """Folds a model in both precisions, and returns the float32 one and its actions.

    In float64 nothing can hide behind a sign that rounding flips.
    """
    for policy, tolerance in (("float64", 1e-9), ("float32", 1e-5)):
        with dtype_policy(policy):
            model = randomize(build())
        if positive:
            for weight in model.weights:
                if "gamma" in weight.name:
                    weight.assign(np.abs(weight))
        folded, report = check_untouched(model)
        assert difference(model, folded) < tolerance
        assert not any(is_batch_norm(layer) for layer in folded.submodules)
        assert folded.name == model.name
    return folded, {change.layer: change for change in report.changes}


def check_untouched(model):
    before = model.get_weights(), [w.name for w in model.weights]
    nodes = [len(layer.inbound_nodes) for layer in model.layers]
    folded, report = nobn.fold_batch_norm(model, return_report=True)
    for given, now in zip(before[0], model.get_weights(), strict=True):
        assert_array_equal(now, given)
    assert [w.name for w in model.weights] == before[1]
    assert [len(layer.inbound_nodes) for layer in model.layers] == nodes
    assert not {id(x) for x in model.submodules} & {id(x) for x in folded.submodules}
    return folded, report
