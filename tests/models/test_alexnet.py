"""AlexNet with a binary first layer, and DoReFa-Net, whose first one is real-valued."""

from inspect import signature

import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.models import BinaryAlexNet, DoReFaNet, ModelProfile
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


def test_counts_of_dorefa_net():
    model = DoReFaNet((64, 64, 3), 10, "batch_norm", width=6)
    # Maps of 14, 7, 4 and 1 pixels.
    stem = 12 * 12 * 3 * 6
    kernels = [25 * 6 * 16, 9 * 16 * 24, 9 * 24 * 24, 9 * 24 * 16, 16 * 256, 256**2]
    sides = (14, 7, 4, 4, 1, 1)
    norms = 16 + 24 + 24 + 16 + 256 + 256
    weights = stem + 6 + sum(kernels) + 2570
    assert parameters(model) == weights + 2 * norms
    macs = ModelProfile(model).op_count
    binary = sum(k * side**2 for k, side in zip(kernels, sides, strict=True))
    assert (macs("mac", 1), macs("mac", 32)) == (binary, stem * 14**2 + 2560)
    # That of Larq Zoo, whose batch norms have β and two moving statistics: maps of 54,
    # 27, 14 and 6 pixels.
    kernels = [25 * 96 * 256, 9 * 256 * 384, 9 * 384**2, 9 * 384 * 256]
    kernels += [6**2 * 256 * 4096, 4096**2]
    stem, norms = 12 * 12 * 3 * 96, 256 + 384 + 384 + 256 + 4096 + 4096
    weights = stem + 96 + sum(kernels) + 4096 * 1000 + 1000
    assert weights + 3 * norms == 62_403_912
    sides = (54, 27, 14, 14, 1, 1)
    binary = sum(k * side**2 for k, side in zip(kernels, sides, strict=True))
    said = " ".join(DoReFaNet.__doc__.split())
    real = (stem * 54**2 + 4096 * 1000) / 1e6
    assert f"{binary / 1e6:,.0f} million binary and {real:.0f} million" in said
    assert f"{weights + 2 * norms:,} weights are trained" in said
    assert f"{norms:,} more" in said
    assert signature(DoReFaNet).parameters["width"].default == 96


def stem(model, images, large):
    """The real-valued first layer, which drops incomplete edges of large images."""
    kernel = real_kernel(model, "stem_conv")
    if not large:
        return conv(images, kernel, 0, 1) + bias(model, "stem_conv")
    windows = np.lib.stride_tricks.sliding_window_view(images, (12, 12), (1, 2))
    windows = windows[:, ::4, ::4]
    return np.einsum("nyxchw,hwco->nyxo", windows, kernel) + bias(model, "stem_conv")


def formula(model, images):
    def behind(pad, name, x, strides=1):
        x = conv(x, binary_kernel(model, f"{name}_conv"), pad, strides)
        return x + bias(model, f"{name}_conv")

    large = images.shape[1] >= 64
    if model.name == "dorefanet":
        x, pooled = stem(model, images, large), {2: True, 3: True, 5: not large}
    else:
        x = max_pool(behind(0, "stem", images, 4 if large else 1), 3, not large)
        pooled = {2: not large, 5: not large}
    for number in (2, 3, 4, 5):
        x = behind(1, f"layer{number}", sign(x))
        if number in pooled:
            x = max_pool(x, 3, pooled[number])
    whole = np.einsum("nhwc,hwco->no", sign(x), binary_kernel(model, "dense1_conv"))
    x = (whole + bias(model, "dense1_conv"))[:, None, None]
    return classified(model, hard_tanh(behind(1, "dense2", sign(x))))


@pytest.mark.parametrize(
    "builder, width, size", [(BinaryAlexNet, 2, 64), (DoReFaNet, 3, 16)]
)
def test_forward_pass_equals_the_formula(builder, width, size):
    keras.utils.set_random_seed(4)
    assert_computes(builder((size, size, 1), 3, width=width), formula)
