from inspect import signature

import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.layers._channel_padding import ChannelPadding
from larq_nobn.models import ResNet20
from larq_nobn.models._resnet20 import clipped_variance, expected_variances
from models.networks import scattered
from models.reference import (
    assert_computes,
    average,
    bias,
    binary_kernel,
    classified,
    conv,
    hard_tanh,
    parameters,
    real_kernel,
    sign,
)
from numpy.testing import assert_allclose, assert_array_equal

TINY = {"width": 4, "blocks": (1, 1)}


def count(blocks, vectors):
    """Trainable parameters by hand: 3x3 kernels, the head, vectors per channel."""
    convs = 2 * blocks
    kernels = 3 * 16 + convs * 16**2
    kernels += 16 * 32 + (convs - 1) * 32**2 + 32 * 64 + (convs - 1) * 64**2
    channels = 16 + convs * (16 + 32 + 64)
    return 9 * kernels + 64 * 10 + 10 + vectors * channels


def test_parameter_counts():
    # A gain and a bias where batch norm has γ and β.
    for normalization, vectors in (("none", 0), ("batch_norm", 2), ("nobn", 2)):
        model = ResNet20((8, 8, 3), 10, normalization, blocks=(1, 1, 1))
        assert parameters(model) == count(1, vectors)
    defaults = signature(ResNet20).parameters
    assert (defaults["width"].default, defaults["blocks"].default) == (16, (3, 3, 3))
    assert count(3, 2) == 269_722


def test_expected_variances_follow_the_stream():
    for variance in (0.1, 1.0, 1.5):
        z = np.random.default_rng(1).normal(0, variance**0.5, 100_000)
        # The standard error of the estimate is below 0.002.
        assert_allclose(clipped_variance(variance), hard_tanh(z).var(), atol=0.006)
    first, second = expected_variances((1, 1), 0.5)
    start = clipped_variance(1.0)
    then = clipped_variance(start + 0.25)
    third = clipped_variance(then + 0.25)
    assert_allclose(first, [start, then])
    # Half of the shortcut's channels are zero.
    assert_allclose(second, [third, clipped_variance(third / 2 + 0.25)])


def test_channel_padding():
    layer = ChannelPadding(1, 2)
    x = np.random.default_rng(2).normal(size=(2, 3, 3, 4)).astype(np.float32)
    assert_array_equal(layer(x), np.pad(x, [(0, 0)] * 3 + [(1, 2)]))
    assert layer.compute_output_shape((None, 3, 3, 4)) == (None, 3, 3, 7)
    symbolic = layer(keras.Input((None, None, 4)))
    assert symbolic.shape[-1] == 7
    again = ChannelPadding.from_config(layer.get_config())
    assert_array_equal(again(x), layer(x))


def formula(model, images):
    x = conv(images, real_kernel(model, "stem_conv"), 0, 1) + bias(model, "stem_conv")
    x = hard_tanh(x)
    for stage, variances in enumerate(expected_variances((1, 1), 0.5), 1):
        for half, variance in zip(("first", "second"), variances, strict=True):
            name = f"stage{stage}_block1_{half}_conv"
            strides = 2 if (stage, half) == (2, "first") else 1
            signs = sign(variance**-0.5 * x)
            branch = 0.5 * conv(signs, binary_kernel(model, name), 1, strides)
            if strides == 2:
                x = np.pad(average(x), [(0, 0)] * 3 + [(2, 2)])
            x = hard_tanh(branch + bias(model, name) + x)
    return classified(model, x)


def test_forward_pass_equals_the_formula():
    keras.utils.set_random_seed(4)
    assert_computes(ResNet20((8, 8, 3), 3, **TINY), formula)


def test_the_graph_that_is_run_computes_what_the_layers_do():
    # Zeros from tf.pad made TensorFlow fuse this sum into a kernel that crashed.
    keras.utils.set_random_seed(5)
    # Off its start, where channels beside the shortcut's are sums that may be 0.
    model = scattered(ResNet20((8, 8, 1), 3, **TINY))
    images = np.random.default_rng(5).normal(size=(16, 8, 8, 1)).astype(np.float32)
    actual = tf.function(model, autograph=False)(images)
    agrees = np.abs(actual - model(images)).max(-1) < 1e-4
    assert agrees.mean() >= 0.9
