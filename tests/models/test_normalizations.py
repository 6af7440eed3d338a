"""Which layers each normalization puts where."""

from functools import cache

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers
from larq_nobn._keras import keras
from larq_nobn.models import QuickNet, ReActNet18
from numpy.testing import assert_array_equal

SMALL = {"width": 32, "blocks": (1, 2)}
BEHIND = {
    "batch_norm": keras.layers.BatchNormalization,
    "filter_response": layers.FilterResponseNormalization,
    "proxy": layers.ProxyNormalization,
    "group": keras.layers.GroupNormalization,
    "kalman": layers.BatchKalmanNormalization,
    "evonorm": layers.EvoNormS0,
    "dynamic_tanh": layers.DynamicTanh,
}
NORMS = tuple(BEHIND.values())
# What branches are added to has none of these.
IN_BRANCHES = ("filter_response", "proxy", "evonorm")
# Group and proxy norm subtract the mean of each example, which leaves no sum at 0. A
# bias after these keeps signs from a tie.
BIASED = ("batch_norm", "filter_response", "kalman", "evonorm", "dynamic_tanh")


@cache
def built(normalization, size=8, **changes):
    return ReActNet18((size, size, 3), 10, normalization, **{**SMALL, **changes})


def kinds(model, *classes):
    return [layer.name for layer in model.layers if isinstance(layer, classes)]


# One of each kind of place; the others are met by `test_networks.py`.
@pytest.mark.parametrize("normalization", ["batch_norm", "filter_response", "kalman"])
def test_one_norm_after_every_convolution(normalization):
    model = built(normalization)
    convs = [
        name
        for name in kinds(model, lq.layers.QuantConv2D)
        if normalization not in IN_BRANCHES
        or ("stem" not in name and "shortcut" not in name)
    ]
    norms = kinds(model, *NORMS)
    assert norms == [f"{name.removesuffix('_conv')}_norm" for name in convs]
    assert kinds(model, BEHIND[normalization]) == norms
    for conv in convs:
        (behind,) = [
            node.layer
            for node in model.get_layer(conv).outbound_nodes
            if isinstance(node.layer, NORMS)
        ]
        assert behind.name == f"{conv.removesuffix('_conv')}_norm"
    for name in norms if normalization in BIASED else ():
        assert_array_equal(model.get_layer(name).beta, np.float32(1e-5))


def test_activations_stay_inside_the_branches():
    model = QuickNet((8, 8, 3), 10, "proxy", width=8, blocks=(1, 1))
    actual = {
        name: model.get_layer(name).get_config()["activation"]
        for name in kinds(model, *NORMS)
    }
    branches = {"stage1_block1_norm", "stage2_block1_norm"}
    assert branches < actual.keys()
    for name, activation in actual.items():
        assert activation == ("leaky_relu" if name in branches else "linear")


def test_groups_have_sixteen_channels_where_they_can():
    names = ("stem_norm", "stage1_block1_norm", "stage2_block1_norm")
    model = built("group", blocks=(1, 1))
    assert [model.get_layer(name).groups for name in names] == [2, 2, 4]
    model = built("evonorm", width=24, blocks=(1, 1))
    assert [model.get_layer(name).groups for name in names[1:]] == [1, 3]


def has_prior(model, name):
    (node,) = model.get_layer(name).inbound_nodes
    return len(tf.nest.flatten(node.input_tensors)) == 3


def test_kalman_carries_a_prior_to_all_but_the_first():
    model = built("kalman")
    first, *others = kinds(model, layers.BatchKalmanNormalization)
    assert first == "stem_norm" and not has_prior(model, first)
    assert len(others) == 4
    assert all(has_prior(model, name) for name in others)
    # It starts again after max pooling.
    model = built("kalman", size=64)
    assert not has_prior(model, "stage1_block1_norm")
    # The branch has moments again, but the shortcut, and so the sum, has none.
    assert not has_prior(model, "stage2_block1_norm")
    assert model(keras.backend.ones((2, 64, 64, 3))).shape == (2, 10)


def test_independent_components_come_before_the_weights():
    model = built("independent_component")
    for block in ("stage1_block1", "stage2_block1", "stage2_block2"):
        conv = model.get_layer(f"{block}_conv")
        assert isinstance(conv.input_quantizer, lq.quantizers.NoOp)
        chain, layer = [], conv
        for _ in range(3):
            layer = layer.inbound_nodes[0].inbound_layers
            chain.append(layer.name)
        assert chain == [f"{block}_flip", f"{block}_sign", f"{block}_norm"]
    shortcut = model.get_layer("stage2_block1_shortcut_conv")
    before = shortcut.inbound_nodes[0].inbound_layers
    assert isinstance(before, layers.IndependentComponent)
    assert kinds(model, layers.IndependentComponent) == [before.name]
