"""Errors for a user are of one base, and stay so on their way through TensorFlow."""

import larq_nobn as nobn
import pytest
import tensorflow as tf
from larq_nobn._errors import InvalidType, InvalidValue, MissingPackage, UserError

keras = tf.keras


class Picky(keras.layers.Layer):
    def __init__(self, error, **options):
        super().__init__(**options)
        self._error = error

    def call(self, x):
        raise self._error("It was 3. Give 4.")


USUAL = {
    InvalidValue: ValueError,
    InvalidType: TypeError,
    MissingPackage: ImportError,
    nobn.training.NonFiniteLoss: ArithmeticError,
    nobn.deploy.ConversionError: ValueError,
}


def test_one_base_beside_that_of_python():
    for error, usual in USUAL.items():
        assert issubclass(error, UserError) and issubclass(error, usual)
        with pytest.raises(error, match=r"It was 3\. Give 4\."):
            keras.Sequential([Picky(error)])(tf.ones((2, 3)))
    model = keras.Sequential([Picky(MissingPackage)])
    model.compile("sgd", "mse")
    with pytest.raises(MissingPackage, match=r"It was 3\. Give 4\."):
        model.fit(tf.ones((2, 3)), tf.ones((2, 1)), verbose=0)
