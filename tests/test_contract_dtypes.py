"""Every row of `cases.py` in half and single precision, against its float64 oracle."""

from itertools import cycle

import numpy as np
import pytest
import tensorflow as tf
from cases import CASES
from contract_networks import call, draw, gradients, names, perturb, policy
from larq_nobn._keras import keras

# One with weights of its own; `test_contract.py` has float64.
POLICIES = ("float16", "mixed_bfloat16")
# The distance from 1 to the next number.
EPSILON = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}
QUANTIZERS = [case for case in CASES if case.role != "layer"]


def in_turn(cases, types):
    """Each row with one of the types, which the package casts to in one place."""
    pairs = zip(cases, cycle(types), strict=False)
    return [pytest.param(*pair, id=f"{pair[0].name}-{pair[1]}") for pair in pairs]


def wide(tensor):
    return np.asarray(tf.cast(tensor, tf.float64))


def assert_near(actual, expected, name, dtype):
    """Up to the roundings of a type, in units of the largest number of a tensor.

    In half precision a result is rounded when it leaves, and so are the hundred or so
    upstream gradients that are summed in one; all between is more precise. In the other
    types that is rounded too.
    """
    # A quantizer may have weights, and thus gradients, of another type than its kernel.
    epsilon = max(EPSILON[dtype], EPSILON[actual.dtype.name])
    actual, expected = wide(actual), np.asarray(expected)
    assert actual.shape == expected.shape, name
    roundings = 8 if dtype in ("float16", "bfloat16") else 64
    allowed = roundings * epsilon * max(1, np.abs(expected).max())
    assert np.abs(actual - expected).max() <= allowed, f"{name} in {dtype}"


def assert_finite(case, dtype):
    """In the smallest range, and for large inputs."""
    drawn = draw(case, case.shapes[0], 1e3)
    inputs = tf.nest.map_structure(lambda x: tf.cast(x, dtype), drawn)
    layer = case.make()
    actual = tf.nest.flatten(call(case, layer, inputs))
    slopes = gradients(case, layer, inputs, [tf.ones_like(y) for y in actual])
    for tensor in [*actual, *tf.nest.flatten(slopes)]:
        assert np.isfinite(wide(tensor)).all()


def check(case, name, dtype):
    """Values and gradients of an object made under a policy, for inputs of a dtype."""
    drawn, rng = draw(case, case.shapes[0]), np.random.default_rng(24)
    with policy(name):
        inputs = tf.nest.map_structure(lambda x: tf.cast(x, dtype), drawn)
        layer = case.make()
        call(case, layer, inputs)
        perturb(layer)
        start = [wide(weight) for weight in layer.weights]
        actual = call(case, layer, inputs)
        upstream = tf.nest.map_structure(
            lambda y: tf.cast(rng.normal(size=y.shape), y.dtype), actual
        )
        slopes = gradients(case, layer, inputs, upstream)
        variable = keras.mixed_precision.global_policy().variable_dtype

    outputs = tf.nest.flatten(actual)
    declared = case.output_dtypes or (None,) * len(outputs)
    kept = "float64" if dtype == "float64" else "float32"
    assert [y.dtype for y in outputs] == [kept if d else dtype for d in declared]
    # Keras' own batch norm, which one row extends, keeps float32 instead of halves.
    if isinstance(layer, keras.layers.BatchNormalization) and variable != "float64":
        variable = "float32"
    assert {each.dtype.name for each in layer.weights} <= {variable}

    exact = tf.nest.map_structure(wide, inputs)
    with policy("float64"):
        other = case.make()
        call(case, other, exact)
        other.set_weights(start)
        values = tf.nest.flatten(call(case, other, exact))
    for place, (y, expected) in enumerate(zip(outputs, values, strict=True)):
        assert_near(y, expected, f"output {place}", dtype)

    weights = dict(zip(names(layer.weights), map(wide, layer.weights), strict=True))
    wanted = case.oracle(exact, weights, tf.nest.map_structure(wide, upstream))
    assert slopes.keys() == wanted.keys()
    for key, slope in slopes.items():
        pairs = tf.nest.flatten(slope), tf.nest.flatten(wanted[key])
        for part, each in zip(*pairs, strict=True):
            assert_near(part, each, f"the gradient of {key}", dtype)


@pytest.mark.parametrize("case, name", in_turn(CASES, POLICIES))
def test_values_and_gradients(case, name):
    check(case, name, name.removeprefix("mixed_"))
    with policy("mixed_float16"):
        assert_finite(case, "float16")


@pytest.mark.parametrize("case, dtype", in_turn(QUANTIZERS, ["bfloat16", "float64"]))
def test_a_quantizer_serves_a_layer_of_another_dtype(case, dtype):
    check(case, "float32", dtype)
