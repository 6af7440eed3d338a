"""What is exactly 0 before a sign has the sign that it had, where that takes it."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import images
from larq_nobn._keras import keras
from larq_nobn.quantizers import RSign
from numpy.testing import assert_array_equal
from tie_networks import GAINS, REAL, SHAPE, WHOLE, conv, network, sign

layers = keras.layers


# Nothing but the values counts here: that folding compares ties rightly is for
# `deploy/operations/test_ties.py`, which compares in the same way.
def check(model, before):
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    folded = nobn.fold_batch_norm(model, verify=False)
    assert_array_equal(folded(x), model(x))
    return folded


def ternary(x):
    return RSign(offset=0.5)(conv(1)(x)) + sign()(conv(1)(-x))


# Whole numbers, and the epsilon of the batch norm after them.
KINDS = {
    "rectifies": (WHOLE["rectifies"], 1e-3),
    "maximum": (WHOLE["maximum"], 1e-3),
    "sum": (lambda x: layers.Add()([conv()(x), conv()(x)]), 0.0),
    "shifted sign": (ternary, 1e-3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_signs_of_whole_numbers(kind):
    part, epsilon = KINDS[kind]
    check(*network(part, gains=np.abs(GAINS), epsilon=epsilon))


@pytest.mark.parametrize("kind, epsilon", [*zip(REAL, (0.0, 1e-3), strict=True)])
def test_signs_of_a_real_number_that_is_common(kind, epsilon):
    mean, part = REAL[kind]
    folded = check(*network(part, mean, np.abs(GAINS), epsilon))
    assert "norm" not in [layer.name for layer in folded.layers]
