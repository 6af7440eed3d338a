import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.models import VGGSmall
from models.reference import (
    assert_computes,
    bias,
    binary_kernel,
    classified,
    conv,
    hard_tanh,
    max_pool,
    parameters,
    real_kernel,
    sign,
)
from numpy.testing import assert_allclose

# Channels in and out of the six 3x3 convolutions.
WIDTHS = (3, 128, 128, 256, 256, 512, 512)
KERNELS = sum(9 * a * b for a, b in zip(WIDTHS[:-1], WIDTHS[1:], strict=True))
HEAD = 4 * 4 * 512 * 10 + 10


def test_parameter_counts():
    # A gain and a bias per channel.
    expected = KERNELS + HEAD + 2 * sum(WIDTHS[1:])
    assert parameters(VGGSmall((32, 32, 3), 10)) == expected


@pytest.mark.parametrize("variance_preserving, deviation", [(False, 0.866), (True, 1)])
def test_biases_start_where_they_center_the_pools(variance_preserving, deviation):
    keras.utils.set_random_seed(3)
    changes = {"variance_preserving": variance_preserving}
    model = VGGSmall((32, 32, 3), 3, width=32, **changes)
    assert_allclose(bias(model, "stage1_layer2_conv"), -0.85 * deviation, atol=1e-3)
    assert_allclose(bias(model, "stage2_layer1_conv"), 1e-5)  # that no sign ties
    x = np.random.default_rng(3).normal(size=(16, 32, 32, 3)).astype(np.float32)
    pooled = keras.Model(model.input, model.get_layer("stage1_pool").output)(x).numpy()
    uncentered = pooled.mean() + 0.85 * deviation
    # Neighbours of noise are less alike than those of images.
    assert 0.7 * deviation < uncentered < 1.03 * deviation
    assert abs(pooled.mean()) < 0.2 * deviation
    large = VGGSmall((64, 64, 3), 3, width=4)
    assert_allclose(bias(large, "stem_conv"), -1.03 + 1e-5, atol=1e-6)


def formula(model, images):
    x = conv(images, real_kernel(model, "stem_conv"), 0, 1) + bias(model, "stem_conv")
    for stage, layers in enumerate(((2,), (1, 2), (1, 2)), 1):
        for layer in layers:
            name = f"stage{stage}_layer{layer}_conv"
            x = conv(sign(x), binary_kernel(model, name), 1, 1) + bias(model, name)
        x = max_pool(x, 2)
    return classified(model, hard_tanh(x))


def test_forward_pass_equals_the_formula():
    keras.utils.set_random_seed(4)
    # A single position is left, whose average it is.
    assert_computes(VGGSmall((8, 8, 3), 3, width=4), formula)
