from functools import partial
from inspect import signature

import larq as lq
import numpy as np
from larq_nobn._keras import keras
from larq_nobn.models import ReActNetA
from models.reference import (
    PUBLISHED,
    assert_computes,
    average,
    binary_kernel,
    classified,
    conv,
    parameters,
    real_kernel,
    rprelu,
    sign,
)

TINY = {"width": 4, "blocks": (1, 2)}


def test_the_network_for_imagenet():
    """With two of the six blocks of the fourth stage, which are all alike but one."""
    assert signature(ReActNetA).parameters["blocks"].default == (1, 2, 2, 6, 2)
    model, wide = ReActNetA((224, 224, 3), 1000, blocks=(1, 2, 2, 2, 2)), 2_626_560
    assert parameters(model) + 4 * wide == 29_332_648
    # On CIFAR-10 nothing but the head is smaller.
    assert 29_332_648 - 990 * (1024 + 1) == 28_317_898
    counts = {}
    for layer in model.layers:
        block = layer.name[: len("stage1_block1")]
        counts[block] = counts.get(block, 0) + layer.count_params()
    actual = [counts[name] for name in sorted(counts) if name.startswith("stage")]
    first = [11_712, 45_952, 165_120, 182_016, 657_920, 724_480]
    assert actual == [*first, wide, 2_890_752, 10_496_000]
    sides = [model.get_layer("stem_conv").output_shape[1]]
    for stage in range(1, 6):
        sides.append(model.get_layer(f"stage{stage}_block1_1x1_act").output_shape[1])
    assert sides == [112, 112, 56, 28, 14, 7]
    convs = [x for x in model.layers if isinstance(x, lq.layers.QuantConv2D)]
    assert len(convs) == 1 + 31 - 4 * 2


def formula(model, x, published=False):
    x = conv(x, real_kernel(model, "stem_conv"), 0, 1)
    alpha, variances = 0.5, [(1.0, 1.25), (1.5, 1.25), (1.5, 1.75)]
    if published:
        alpha, variances = 0.2, [(1.0, 1.04), (1.08, 1.12), (1.0, 1.04)]
    blocks = ("stage1_block1", "stage2_block1", "stage2_block2")
    for name, (first, second) in zip(blocks, variances, strict=True):
        strides, paired = 1 + (name == "stage2_block1"), name != "stage2_block2"
        spatial = model.get_layer(f"{name}_3x3_conv")
        kernel = binary_kernel(model, f"{name}_3x3_conv")
        signs = sign(first**-0.5 * x + spatial.input_quantizer.shift.numpy())
        shortcut = x if published else first**-0.5 * x
        shortcut = average(shortcut) if strides == 2 else x
        h = shortcut + alpha * conv(signs, kernel, 1, strides)
        h = rprelu(model, f"{name}_3x3_act", h)
        if paired:
            quantizer = model.get_layer(f"{name}_1x1_sign")
            convs = [f"{name}_1x1a_conv", f"{name}_1x1b_conv"]
        else:
            quantizer = model.get_layer(f"{name}_1x1_conv").input_quantizer
            convs = [f"{name}_1x1_conv"]
        signs = sign(second**-0.5 * h + quantizer.shift.numpy())
        kernels = [binary_kernel(model, each) for each in convs]
        sums = [h + alpha * conv(signs, kernel, 1, 1) for kernel in kernels]
        x = rprelu(model, f"{name}_1x1_act", np.concatenate(sums, -1))
    return classified(model, x)


def test_forward_pass_equals_the_formula():
    keras.utils.set_random_seed(4)
    assert_computes(ReActNetA((8, 8, 3), 3, **TINY), formula)


def test_forward_pass_of_the_published_quantized_form():
    keras.utils.set_random_seed(4)
    forms = {**PUBLISHED, "scaled_shortcut": False, "power_of_two": True}
    model = ReActNetA((8, 8, 3), 3, **forms, **TINY)
    assert model.get_layer("stage2_block2_1x1_act").power_of_two is True
    assert_computes(model, partial(formula, published=True))
