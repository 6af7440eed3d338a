from inspect import signature

import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.models import BinaryAlexNet
from models.reference import (
    assert_computes,
    bias,
    binary_kernel,
    classified,
    conv,
    hard_tanh,
    max_pool,
    parameters,
    sign,
)


def count(width, classes, channels, stem, position, vectors):
    """Trainable parameters by hand: kernels, the head, and vectors per channel."""
    kernels = stem * stem * channels * width
    kernels += 5 * 5 * width * 3 * width
    kernels += 3 * 3 * width * width * (3 * 6 + 6 * 6 + 6 * 4)
    kernels += position * 4 * width * 64 * width + (64 * width) ** 2
    head = 64 * width * classes + classes
    return kernels + head + vectors * width * (1 + 3 + 6 + 6 + 4 + 64 + 64)


def test_parameter_counts():
    # Maps of 56, 27, 13 and 6 pixels, or of 32, 16, 8 and 4.
    for size, normalization, *shapes, vectors in (
        (224, "nobn", 11, 6 * 6, 2),
        (32, "none", 3, 4 * 4, 0),
    ):
        model = BinaryAlexNet((size, size, 3), 10, normalization, width=2)
        assert parameters(model) == count(2, 10, 3, *shapes, vectors)
    # That of Larq Zoo, whose head is binary with a batch norm of three vectors, and
    # whose other batch norms have no γ: 61,859,192 with moving statistics.
    vectors = 64 * (1 + 3 + 6 + 6 + 4 + 64 + 64)
    ours = count(64, 1000, 3, 11, 36, 0)
    assert ours - 1000 + 3 * (vectors + 1000) == 61_859_192
    defaults = signature(BinaryAlexNet).parameters
    assert defaults["width"].default == 64


def formula(model, images):
    def behind(pad, name, x, strides=1):
        x = conv(x, binary_kernel(model, f"{name}_conv"), pad, strides)
        return x + bias(model, f"{name}_conv")

    large = images.shape[1] >= 64
    x = max_pool(behind(0, "stem", images, 4 if large else 1), 3, not large)
    x = max_pool(behind(1, "layer2", sign(x)), 3, not large)
    x = behind(1, "layer3", sign(x))
    x = behind(1, "layer4", sign(x))
    x = max_pool(behind(1, "layer5", sign(x)), 3, not large)
    whole = np.einsum("nhwc,hwco->no", sign(x), binary_kernel(model, "dense1_conv"))
    x = (whole + bias(model, "dense1_conv"))[:, None, None]
    return classified(model, hard_tanh(behind(1, "dense2", sign(x))))


@pytest.mark.parametrize("size", [16, 64])
def test_forward_pass_equals_the_formula(size):
    keras.utils.set_random_seed(4)
    assert_computes(BinaryAlexNet((size, size, 1), 3, width=2), formula)
