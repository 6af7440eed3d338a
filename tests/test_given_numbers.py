"""Examples are numbers of any type, or one sentence says what they are."""

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.population._batches import model_batches

X = np.random.default_rng(0).integers(-3, 4, (5, 2))
GIVEN = {
    **{kind: X.astype(kind) for kind in (">f2", ">f4", ">f8", ">i2", ">i8", "f2")},
    **{kind: X.astype(kind) for kind in ("i1", "longdouble", "object")},
    "nested lists": X.tolist(),
    "floats as objects": X.astype(float).astype(object),
    "bfloat16": tf.cast(X, tf.bfloat16),
}


@pytest.mark.parametrize("name", GIVEN)
def test_numbers_of_any_type_are_what_they_are(name):
    model = keras.Sequential([keras.Input(2)])
    ((taken,), _), *_ = model_batches(model, GIVEN[name], 8)
    assert taken.dtype == tf.float32
    np.testing.assert_array_equal(taken, X)


@pytest.mark.parametrize(
    "given, kind",
    [
        (X.astype(str), "string"),
        (X.astype("S2"), "string"),
        (X.astype(complex), "complex128"),
        (np.full((5, 2), "a", object), "objects"),
        (tf.constant(X.astype(str)), "objects"),
    ],
)
def test_what_is_no_number_is_said(given, kind):
    model = keras.Sequential([keras.Input(2, name="rows")])
    with pytest.raises(ValueError, match=f"contains {kind} for the input 'rows'"):
        next(model_batches(model, given, 8))


def test_text_for_an_input_of_text_stays():
    model = keras.Sequential([keras.Input(2, dtype=tf.string)])
    ((taken,), _), *_ = model_batches(model, X.astype(str), 8)
    assert taken.dtype == tf.string and taken.shape == (5, 2)
