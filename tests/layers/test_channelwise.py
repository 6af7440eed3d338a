"""Where the biases of normalizations start."""

import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.layers import (
    BatchKalmanNormalization,
    EvoNormS0,
    FilterResponseNormalization,
)
from numpy.testing import assert_array_equal

NORMS = [
    BatchKalmanNormalization,
    lambda **chosen: EvoNormS0(2, **chosen),
    FilterResponseNormalization,
]


@pytest.mark.parametrize("norm", NORMS)
def test_biases_start_where_they_are_told_to(norm):
    told = keras.initializers.Constant(0.25)
    for layer, expected in ((norm(), 0), (norm(beta_initializer=told), 0.25)):
        layer.build((None, 7, 7, 4))
        assert_array_equal(layer.beta, np.full(4, expected))
    with pytest.raises(ValueError, match="beta_initializer='zeroes' is not an init"):
        norm(beta_initializer="zeroes")
