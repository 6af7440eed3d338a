from inspect import signature

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.models import BinaryDenseNet28, BinaryDenseNet37, BinaryDenseNet45
from models.dense_reference import (
    SCALE,
    binary,
    finished,
    normalized_channels,
    relu,
    stem_pooled,
    transition,
)
from models.reference import assert_computes, conv, real_kernel
from numpy.testing import assert_allclose

TINY = {"width": 4, "blocks": (1, 2)}


def transitions(model):
    convs = [model.get_layer(f"transition{i}_conv") for i in (1, 2, 3)]
    return [(conv.input_shape[-1], conv.filters) for conv in convs]


@pytest.mark.slow
def test_parameters_as_published():
    depths = {BinaryDenseNet28: 23, BinaryDenseNet37: 32, BinaryDenseNet45: 40}
    for builder, layers in depths.items():
        assert sum(signature(builder).parameters["blocks"].default) == layers
    model = BinaryDenseNet28((224, 224, 3), 1000, "none")
    # Of batch norm γ, β and two statistics.
    assert model.count_params() + 4 * normalized_channels(model) == 5_150_504
    assert transitions(model) == [(448, 160), (544, 192), (576, 256)]
    assert model.get_layer("final_act").output_shape[1:3] == (7, 7)


def formula(model, images):
    small = images.shape[1] < 64
    if small:
        x = conv(images, real_kernel(model, "stem_conv"), 0, 1)
    else:
        x = conv(images, SCALE * real_kernel(model, "stem_conv"), 0, 2)
        x = stem_pooled(relu(x))
    x = np.concatenate([x, binary(model, "stage1_layer1", x)], -1)
    x = transition(model, "transition1", x)
    for layer in ("stage2_layer1", "stage2_layer2"):
        x = np.concatenate([x, binary(model, layer, x)], -1)
    return finished(model, x)


@pytest.mark.parametrize("side", [9, 64])
def test_forward_pass_equals_the_formula(side):
    keras.utils.set_random_seed(4)
    assert_computes(BinaryDenseNet28((side, side, 3), 3, **TINY), formula)


def test_filter_response_has_its_threshold_in_place_of_relus():
    """As in the paper, max(FRN(x), τ); a map of single pixels has a learned ε."""
    model = BinaryDenseNet28((8, 8, 3), 3, "filter_response", **TINY)
    norm, act = model.get_layer("transition1_norm"), model.get_layer("transition1_act")
    act.tau.assign([-0.5, 0.0, 0.5, 1.0, -1.0, -0.2, 0.3, 2.0])
    x = np.random.default_rng(3).normal(size=(2, 8, 8, 8))
    mean = np.mean(x**2, (1, 2), keepdims=True)
    expected = np.maximum(x / np.sqrt(mean + 1e-6), act.tau.numpy())
    assert_allclose(act(norm(tf.constant(x, tf.float32))), expected, atol=1e-5)
    names = [layer.name for layer in model.layers]
    order = ("transition1_norm", "transition1_pool", "transition1_act")
    assert [names.index(n) for n in order] == sorted(map(names.index, order))
    assert "final_act" in names and not any(
        isinstance(layer, keras.layers.ReLU) for layer in model.layers
    )


def test_dilation_takes_the_place_of_the_pools():
    small = {"width": 4, "blocks": (1, 1, 1, 1)}
    plain = BinaryDenseNet37((8, 8, 3), 3, **small)
    dilated = BinaryDenseNet37((8, 8, 3), 3, dilated=True, **small)
    assert [w.shape for w in dilated.weights] == [w.shape for w in plain.weights]
    convs = [dilated.get_layer(f"stage{i}_layer1_conv") for i in (1, 2, 3, 4)]
    assert [conv.output_shape[1] for conv in convs] == [8, 4, 4, 4]
    assert [conv.dilation_rate[0] for conv in convs] == [1, 1, 2, 4]
    assert plain.get_layer("stage4_layer1_conv").output_shape[1] == 1


def signs(model, images):
    """What the first binary convolution sees of the stem."""
    conv = model.get_layer("stage1_layer1_conv")
    before = keras.Model(model.input, conv.input)(images)
    return conv.input_quantizer(before)


@pytest.mark.parametrize("normalization", ["batch_norm", "filter_response"])
def test_both_signs_stand_after_the_rectified_stem(normalization):
    keras.utils.set_random_seed(2)
    model = BinaryDenseNet28((64, 64, 3), 3, normalization, **TINY)
    # As smooth as photos, in which neighbours are alike.
    images = tf.random.stateless_normal((8, 8, 8, 3), (1, 2))
    images = tf.image.resize(images, (64, 64))
    if normalization == "batch_norm":
        model(images, training=True)
        norms = [x for x in model.layers if x.name.endswith("norm")][:2]
        for norm in norms:
            norm.momentum = 0.0
        model(images, training=True)
    share = np.mean(signs(model, images) > 0, (0, 1, 2))
    assert np.all((share > 0.05) & (share < 0.95))
