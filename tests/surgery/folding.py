"""What the tests of folding share: models of rows of layers, and their comparison."""

from contextlib import contextmanager

import larq_nobn as nobn
import numpy as np
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.graph._models import is_batch_norm
from numpy.testing import assert_array_equal

BatchNorm = keras.layers.BatchNormalization
AFFINE = "became a per-channel affine layer"
SHAPE = (8, 8, 4)
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


def chain(*layers, shape=SHAPE):
    return keras.Sequential([keras.Input(shape), *layers], name="chain")


def beside(*rows, shapes=()):
    """A model of rows of layers; each has an input and an output of its own."""
    inputs, outputs = [], []
    for place, row in enumerate(rows):
        x = keras.Input(shapes[place] if shapes else SHAPE)
        inputs.append(x)
        for layer in row:
            x = layer(x)
        outputs.append(x)
    return keras.Model(inputs, outputs, name="beside")


def names_of(model, place=0):
    """The names of the layers in a row, the input's left out."""
    layer, names = model.outputs[place]._keras_history.layer, []
    while not isinstance(layer, keras.layers.InputLayer):
        names.insert(0, layer.name)
        layer = layer.inbound_nodes[0].inbound_layers
    return names


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
    """The largest difference of two models, relative to the largest of an output."""
    random = np.random.default_rng(1)
    x = [random.normal(size=(4, *given.shape[1:])) for given in model.inputs]
    pairs = zip(tf.nest.flatten(model(x)), tf.nest.flatten(other(x)), strict=True)
    return max(np.max(np.abs(y - was)) / np.max(np.abs(was)) for was, y in pairs)


@contextmanager
def floatx(name):
    """Inputs of a type; a model inside a model casts to that of its own."""
    keras.backend.set_floatx(name)
    try:
        yield
    finally:
        keras.backend.set_floatx("float32")


def random_model(build, policy="float64"):
    with dtype_policy(policy), floatx(policy):
        return randomize(build())


def fold(build, change=None, policy="float64"):
    """Folds a model; in float64 nothing can hide after a sign that rounding flips.

    Folding does not compare what it makes: other tests have it do so.
    """
    model = random_model(build, policy)
    if change is not None:
        change(model)
    folded, report = fold_untouched(model)
    assert difference(model, folded) < TOLERANCE[policy]
    assert not any(is_batch_norm(layer) for layer in folded.submodules)
    assert folded.name == model.name
    return folded, {change.layer: change for change in report.changes}


def fold_untouched(model):
    """Folds a model, and checks that it is as it was."""
    before = model.get_weights(), [weight.name for weight in model.weights]
    nodes = [len(layer.inbound_nodes) for layer in model.layers]
    folded, report = nobn.fold_batch_norm(model, verify=False, return_report=True)
    for given, now in zip(before[0], model.get_weights(), strict=True):
        assert_array_equal(now, given)
    assert [weight.name for weight in model.weights] == before[1]
    assert [len(layer.inbound_nodes) for layer in model.layers] == nodes
    assert not {id(x) for x in model.submodules} & {id(x) for x in folded.submodules}
    return folded, report
