from inspect import signature

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import models
from larq_nobn._keras import keras
from larq_nobn.layers._grouped import GroupedConv2D
from larq_nobn.models import MeliusNet22, MeliusNetA, ModelProfile, _meliusnet
from models.dense_reference import (
    SCALE,
    binary,
    finished,
    halved,
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


# Channels after the transitions, groups of these, and millions of operations and MB of
# the paper's tables and of those beside its code.
PUBLISHED = {
    "MeliusNet22": ((4, 5, 4, 4), (160, 224, 256), 1, 208, 3.88),
    "MeliusNet29": ((4, 6, 8, 6), (128, 192, 256), 1, 214, 5.07),
    "MeliusNet42": ((5, 8, 14, 10), (160, 256, 416), 1, 325, 10.1),
    "MeliusNet59": ((6, 12, 24, 12), (192, 320, 544), 1, 532, 17.39),
    "MeliusNetA": ((4, 5, 5, 6), (160, 256, 288), 4, 163, 4.05),
    "MeliusNetB": ((4, 6, 8, 6), (160, 224, 320), 2, 196, 5.0),
    "MeliusNetC": ((3, 5, 10, 6), (128, 192, 288), 4, 150, 4.46),
}


def counted(blocks, narrowed, groups):
    """Inputs of transitions, and weights and MACs with batch norm: binary, float.

    For 224x224x3 images and 1000 classes.
    """
    stem = 9 * (3 * 32 + 8 * 32 + 4 * 64)
    channels, norms = 64, 32 + 32 + 64
    weights, macs, wide = np.array([0, stem]), np.array([0, stem * 112**2]), []
    for stage, count in enumerate(blocks):
        side = 56 // 2**stage
        if stage > 0:
            out = narrowed[stage - 1]
            wide.append(channels)
            norms += channels
            one = np.array([0, channels * out // groups])
            weights, macs, channels = weights + one, macs + one * side**2, out
        for _ in range(count):
            norms += channels + channels + 64
            one = np.array([9 * 64 * (channels + channels + 64), 0])
            weights, macs, channels = weights + one, macs + one * side**2, channels + 64
    norms += channels
    head = np.array([0, 1000 * channels])
    return wide, weights + head + [0, 1000 + 2 * norms], macs + head, channels


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_as_published(name, monkeypatch):
    blocks, narrowed, groups, operations, megabytes = PUBLISHED[name]
    wide, weights, macs, channels = counted(blocks, narrowed, groups)
    assert macs[1] / 1e6 - channels / 1e3 + macs[0] / 64e6 == pytest.approx(
        operations, abs=0.51
    )
    assert weights @ [1 / 8, 4] / 2**20 == pytest.approx(megabytes, abs=0.01)
    row = [f"{weights.sum():,}", f"{macs[0] / 1e6:,.0f}", f"{macs[1] / 1e6:.1f}"]
    row = [", ".join(map(str, narrowed)), *row, str(operations), f"{megabytes:.2f}"]
    cells = [line.split("|") for line in MeliusNet22.__doc__.split("\n")]
    cells = {each[1].strip(" `"): each[2:-1] for each in cells if len(each) > 3}
    assert [cell.strip() for cell in cells[name]] == row
    monkeypatch.setattr(_meliusnet, "dense_network", lambda *own, **given: (own, given))
    builder = getattr(models, name)
    (network, design), given = builder((224, 224, 3), 1000)
    assert (network, given["name"]) == (name, name.lower())
    assert (given["width"], given["blocks"], design.groups) == (64, blocks, groups)
    assert signature(builder).parameters["blocks"].default == blocks
    ratios = [c / out for c, out in zip(wide, narrowed, strict=True)]
    assert design.reductions == pytest.approx(ratios)


def test_groups_divide_the_weights_of_transitions():
    model = MeliusNetA((64, 64, 3), 1000, "batch_norm", blocks=(1, 1))
    kernel = model.get_layer("transition1_conv").kernel
    assert kernel.shape == (1, 1, 128 // 4, 64)
    profile = ModelProfile(model)
    binary = 9 * 64 * (16**2 * (64 + 128) + 8**2 * (64 + 128))
    assert profile.op_count("mac", 1) == binary
    real = 9 * (3 * 32 + 8 * 32 + 4 * 64) * 32**2 + 8**2 * 128 // 4 * 64 + 128 * 1000
    assert profile.op_count("mac", 32) == real


def grouped(x, kernel, groups):
    """A convolution of stride 1 in groups of channels, one after the other."""
    inputs = np.split(x, groups, -1)
    kernels = np.split(kernel, groups, -1)
    parts = [conv(*pair, 0, 1) for pair in zip(inputs, kernels, strict=True)]
    return np.concatenate(parts, -1)


def grouped_transition(model, x, groups):
    """As in the published code: pool, ReLU, channel shuffle, convolution in groups."""
    x = relu(halved(x))
    shuffled = x.reshape(*x.shape[:3], groups, -1).swapaxes(3, 4).reshape(x.shape)
    kernel = SCALE * real_kernel(model, "transition1_conv")
    return grouped(shuffled, kernel, groups)


def formula(model, images):
    kernels = [SCALE * real_kernel(model, f"stem{i}_conv") for i in (1, 2, 3)]
    x = relu(conv(images, kernels[0], 0, 2))
    x = relu(grouped(x, kernels[1], 4))
    x = stem_pooled(relu(grouped(x, kernels[2], 8)))
    for name in BLOCKS:
        if name == "stage2_block1":
            if model.name == "meliusneta":
                x = grouped_transition(model, x, 4)
            else:
                x = transition(model, "transition1", x)
        new = binary(model, f"{name}_dense", x)
        x = np.concatenate([x, new], -1)
        change = binary(model, f"{name}_improve", x)
        # As published: the last channels are improved, the others get zeros.
        x = x + 0.5 * np.pad(change, ((0, 0),) * 3 + ((x.shape[-1] - 16, 0),))
    return finished(model, x)


@pytest.mark.parametrize("builder", [MeliusNet22, MeliusNetA])
def test_forward_pass_equals_the_formula(builder):
    keras.utils.set_random_seed(4)
    assert_computes(builder((64, 64, 3), 3, **TINY), formula)


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
