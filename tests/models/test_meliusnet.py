import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.layers._grouped import GroupedConv2D
from larq_nobn.models import MeliusNet22
from models.dense_reference import (
    SCALE,
    binary,
    finished,
    normalized_channels,
    relu,
    stem_pooled,
    transition,
)
from models.reference import assert_computes, conv, parameters, real_kernel
from numpy.testing import assert_allclose

TINY = {"width": 16, "blocks": (1, 2)}
BLOCKS = ("stage1_block1", "stage2_block1", "stage2_block2")


@pytest.mark.slow
def test_parameters_as_published():
    model = MeliusNet22((224, 224, 3), 1000, "none")
    channels = normalized_channels(model)
    # Of batch norm γ and β, and two statistics.
    assert parameters(model) == model.count_params() == 6_944_584 - 2 * channels
    assert 6_944_584 + 2 * channels == 6_969_672
    convs = [model.get_layer(f"transition{i}_conv") for i in (1, 2, 3)]
    narrowed = [(conv.input_shape[-1], conv.filters) for conv in convs]
    assert narrowed == [(320, 160), (480, 224), (480, 256)]
    assert model.get_layer("final_act").output_shape[1:3] == (7, 7)


def grouped(x, kernel, groups):
    """A convolution of stride 1 in groups of channels, one after the other."""
    inputs = np.split(x, groups, -1)
    kernels = np.split(kernel, groups, -1)
    parts = [conv(*pair, 0, 1) for pair in zip(inputs, kernels, strict=True)]
    return np.concatenate(parts, -1)


def formula(model, images):
    kernels = [SCALE * real_kernel(model, f"stem{i}_conv") for i in (1, 2, 3)]
    x = relu(conv(images, kernels[0], 0, 2))
    x = relu(grouped(x, kernels[1], 4))
    x = stem_pooled(relu(grouped(x, kernels[2], 8)))
    for name in BLOCKS:
        if name == "stage2_block1":
            x = transition(model, "transition1", x)
        new = binary(model, f"{name}_dense", x)
        x = np.concatenate([x, new], -1)
        change = binary(model, f"{name}_improve", x)
        # As published: the last channels are improved, the others get zeros.
        x = x + 0.5 * np.pad(change, ((0, 0),) * 3 + ((x.shape[-1] - 16, 0),))
    return finished(model, x)


def test_forward_pass_equals_the_formula():
    keras.utils.set_random_seed(4)
    assert_computes(MeliusNet22((64, 64, 3), 3, **TINY), formula)


def test_grouped_convolution_is_that_of_keras():
    quantizer = "scaled_standardization"
    keras.utils.set_random_seed(1)
    x = tf.random.stateless_normal((2, 5, 5, 8), (1, 2))
    arguments = {"strides": 2, "padding": "same", "groups": 4, "activation": "relu"}
    ours = GroupedConv2D(12, 3, kernel_quantizer=quantizer, **arguments)
    theirs = lq.layers.QuantConv2D(12, 3, kernel_quantizer=quantizer, **arguments)
    ours.build(x.shape), theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(y))
        results.append((y, *tape.gradient(loss, (x, *layer.trainable_weights))))
    assert len(results[0]) == 5
    for mine, expected in zip(*results, strict=True):
        assert_allclose(mine, expected, atol=1e-5)
