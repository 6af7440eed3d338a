"""What is exactly 0 before a sign has the sign that it had, where that takes it."""

import larq_nobn as nobn
import numpy as np
from deploy.nets import images
from larq_nobn._keras import keras
from numpy.testing import assert_array_equal
from tie_networks import GAINS, REAL, SHAPE, WHOLE, network

layers = keras.layers


# Nothing but the values counts here: that folding compares ties rightly is for
# `deploy/operations/test_ties.py`, which compares in the same way.
def check(model, before):
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    folded = nobn.fold_batch_norm(model, verify=False)
    assert_array_equal(folded(x), model(x))
    return folded


def test_signs_of_whole_numbers():
    for part in (WHOLE["rectifies"], WHOLE["maximum"]):
        check(*network(part, gains=np.abs(GAINS)))


def test_signs_of_a_real_number_that_is_common():
    for mean, part in REAL.values():
        folded = check(*network(part, mean, np.abs(GAINS)))
        assert "norm" not in [layer.name for layer in folded.layers]
