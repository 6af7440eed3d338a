"""The examples that conversion makes up where none are given."""

import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.deploy._opening import verification_examples

_layers = keras.layers
USUAL = 32


def made_up(*inputs):
    model = keras.Model(list(inputs), list(inputs))
    actual, said, _ = verification_examples(None, model, model)
    assert said.startswith("27 random and 5 regular inputs, ")
    return [array[:USUAL] for array in actual]


@pytest.mark.parametrize("shape", [(), (6, 3), (4, 8, 6, 3)])
def test_regular_ones_come_first(shape):
    [actual] = made_up(keras.Input(shape))
    assert actual.shape == (32, *shape)
    assert actual.dtype == np.float32
    assert len(np.unique(actual[:5].reshape(5, -1), axis=0)) >= 4
    assert np.std(actual[5::3]) == pytest.approx(1, abs=0.25)
    assert np.std(actual[6::3]) > 2
    # Some are of whole numbers that tie.
    whole = [x for x in actual[5:] if (x == np.rint(x)).all()]
    assert len(whole) == 9
    assert 0.2 < np.mean(np.equal(whole, 0)) < 0.6


@pytest.mark.parametrize(
    "dtype, low, high", [("uint8", 0, 255), ("int8", -128, 127), ("int64", 0, 255)]
)
def test_integers_are_bytes(dtype, low, high):
    [actual] = made_up(keras.Input((8, 8, 3), dtype=dtype))
    assert actual.dtype == dtype
    assert low <= actual.min() < low + 40
    assert high - 40 < actual.max() <= high
    [flags] = made_up(keras.Input((8,), dtype="bool"))
    assert flags.dtype == bool
    assert 0.2 < flags.mean() < 0.8


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_ids_are_those_of_the_smallest_table(dtype):
    ids, other = keras.Input((5,), dtype=dtype), keras.Input((5,))
    turned = _layers.Reshape((5, 1))(ids)
    tables = [_layers.Embedding(size, 4)(turned) for size in (7, 3)]
    model = keras.Model([other, ids], [other, *tables])
    (free, actual), *_ = verification_examples(None, model, model)
    assert set(np.unique(actual)) == {0, 1, 2}
    assert actual.dtype == dtype
    assert free.min() < -2


def test_of_large_inputs_there_are_few():
    inputs = keras.Input((128, 128, 3))
    model = keras.Model(inputs, inputs)
    (actual,), said, _ = verification_examples(None, model, model)
    assert len(actual) == 10
    assert said == "3 random and 5 regular inputs, 2 of large numbers, seed 0"


def far(layer, shape=(4,)):
    """What follows the usual examples of a model of one layer."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    [actual], said, _ = verification_examples(None, model, model)
    more = len(actual) - USUAL
    assert said == f"27 random and 5 regular inputs, {more} of large numbers, seed 0"
    return actual[USUAL:]


def test_some_reach_far_in_both_directions():
    actual = far(_layers.Dense(2, "softplus"), (8, 6, 3))
    assert (actual.min(axis=(1, 2, 3)) < [-1e3, -1e5]).all()
    assert (actual.max(axis=(1, 2, 3)) > [1e3, 1e5]).all()
