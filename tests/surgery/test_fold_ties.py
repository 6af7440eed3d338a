"""Signs of what is exactly 0: +1 before folding and after, whatever the gain."""

import larq_nobn as nobn
import numpy as np
import pytest
from deploy.nets import binary_conv, images
from larq_nobn.quantizers import RSign
from numpy.testing import assert_array_equal
from tie_networks import GAINS, MEANS, REAL, SHAPE, WHOLE, conv, layers, network, norm


def check(model, before):
    x = images(4, SHAPE)
    assert np.mean(before(x).numpy() == 0) > 0.01
    folded = nobn.fold_batch_norm(model)
    assert_array_equal(folded(x), model(x))
    return folded


@pytest.mark.parametrize("kind", WHOLE)
def test_of_whole_numbers(kind):
    check(*network(WHOLE[kind]))


@pytest.mark.parametrize("kind", ["rectified", "sum", "average"])
def test_of_whole_numbers_without_an_epsilon(kind):
    check(*network(WHOLE[kind], epsilon=0.0))


def test_of_zeros_that_another_batch_norm_makes():
    """A little more than such a 0, times a negative gain, has the other sign."""

    def part(x):
        inner = norm(np.roll(GAINS, 4), MEANS, 1e-3, "inner")
        return layers.MaxPooling2D()(inner(conv()(x)))

    # Padded with ones, so that no kernel takes the negative gains.
    check(*network(part, 0.0, last=binary_conv(16)))


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
@pytest.mark.parametrize("kind", REAL)
def test_of_a_real_number_that_is_common(kind, epsilon):
    mean, part = REAL[kind]
    folded = check(*network(part, mean, epsilon=epsilon))
    assert "norm" not in [layer.name for layer in folded.layers]


@pytest.mark.parametrize(
    "kind, bias", [("convolution", 3), ("rectified", 3), ("maximum", 3), ("sum", 2)]
)
def test_of_a_bias_that_is_the_opposite_of_a_sum(kind, bias):
    """-x + 3 is 0 where x is 3."""
    model, before = network(WHOLE[kind], 0.0, -1.0, 0.0)
    model.get_layer("norm").beta.assign(np.full(16, bias))
    check(model, before)


@pytest.mark.parametrize("gain", [-1.0, 1.0])
def test_of_a_sign_with_a_shift_of_its_own(gain):
    """gain * x + b is 0 where x is 2."""
    last = conv(1, input_quantizer=RSign(offset=-2.0 * gain))
    model, _ = network(WHOLE["rectified"], 0.0, gain, 0.0, last)
    folded, x = nobn.fold_batch_norm(model), images(4, SHAPE)
    assert_array_equal(folded(x), model(x))


def test_thresholds_that_no_sum_reaches_stay():
    """Of whole numbers -1, 1, 3, ... and a threshold of 2.4 nothing has to move."""
    model, _ = network(WHOLE["rectified"], 2.4, GAINS, 0.0)
    folded = nobn.fold_batch_norm(model)
    quantizer = folded.layers[-1].input_quantizer
    threshold = -quantizer.shift.numpy() / quantizer.scale
    np.testing.assert_allclose(threshold, np.full(16, 2.4), rtol=1e-6)
