import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn._keras import dtype_policy
from larq_nobn.graph import kernel_value
from numpy.testing import assert_allclose, assert_array_equal


def test_the_value_of_other_latent_weights():
    layer = lq.layers.QuantDense(3, kernel_quantizer=nobn.quantizers.ReCU())
    layer(np.zeros((1, 4)))  # which builds the quantizer too
    latent = np.random.default_rng(1).normal(size=(4, 3))
    before = kernel_value(layer.kernel)
    found = kernel_value(layer.kernel, latent)
    assert_array_equal(kernel_value(layer.kernel), before)
    layer.kernel.latent_variable.assign(latent)
    assert_array_equal(found, kernel_value(layer.kernel))
    assert np.any(found != before)


def test_without_a_quantizer_they_are_their_own_value():
    layer = lq.layers.QuantDense(3)
    layer.build((None, 4))
    latent = np.ones((4, 3))
    assert_array_equal(kernel_value(layer.kernel, latent), latent)


@pytest.mark.parametrize("policy", ["float32", "float64"])
def test_it_is_what_the_layer_multiplies_by(policy):
    with dtype_policy(policy):
        quantizer = nobn.quantizers.ScaledStdSign()
        layer = lq.layers.QuantDense(3, kernel_quantizer=quantizer)
        layer(np.zeros((1, 4)))
    with lq.context.quantized_scope(True):
        seen = np.asarray(layer.kernel.read_value())
    found = kernel_value(layer.kernel)
    assert found.dtype == policy
    assert_allclose(found, seen, rtol=1e-6)
