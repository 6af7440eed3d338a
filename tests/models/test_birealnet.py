"""Bi-Real Net and XNOR-Net, which differ in their norms and shortcuts."""

from inspect import signature

import pytest
from larq_nobn._keras import keras
from larq_nobn.models import BiRealNet18, XNORNet18
from models.reference import (
    assert_computes,
    average,
    binary_kernel,
    classified,
    conv,
    parameters,
    prelu,
    real_kernel,
    sign,
)

TINY = {"width": 4, "blocks": (2, 2)}


def of_more_blocks(vectors):
    """What three more blocks of each stage add: kernels, and vectors per channel."""
    return sum(3 * (9 * f**2 + vectors * f) for f in (64, 128, 256, 512))


def test_parameter_counts_on_cifar():
    for builder in (BiRealNet18, XNORNet18):
        assert signature(builder).parameters["blocks"].default == (4, 4, 4, 4)
    one = {"blocks": (1, 1, 1, 1)}
    gains = of_more_blocks(1)
    assert parameters(BiRealNet18((8, 8, 3), 100, **one)) + gains == 11_215_908
    # γ and β of what enters the 16 blocks, of the stem and of the three shortcuts.
    entering = 5 * 64 + 4 * 128 + 4 * 256 + 3 * 512
    norms = 2 * (entering + 64 + 128 + 256 + 512)
    actual = parameters(XNORNet18((8, 8, 3), 10, "batch_norm", **one))
    assert actual + of_more_blocks(2) == 11_169_738 - 4_800 + norms


def shortcut_of(builder, model, x):
    name = "stage2_block1_shortcut_conv"
    if builder is BiRealNet18:
        return conv(average(x), real_kernel(model, name), 0, 1)
    return conv(x, binary_kernel(model, name), 0, 2)


def formula_of(builder):
    def formula(model, x):
        x = prelu(model, "stem_act", conv(x, real_kernel(model, "stem_conv"), 0, 1))
        for stage in (1, 2):
            for block in (1, 2):
                # Signs have no shift, for which β could make a difference.
                name = f"stage{stage}_block{block}_conv"
                strides = 2 if (stage, block) == (2, 1) else 1
                branch = 0.5 * conv(sign(x), binary_kernel(model, name), 1, strides)
                x = branch + (shortcut_of(builder, model, x) if strides == 2 else x)
        return classified(model, prelu(model, "last_act", x))

    return formula


@pytest.mark.parametrize("builder", [BiRealNet18, XNORNet18])
def test_forward_pass_equals_the_formula(builder):
    keras.utils.set_random_seed(4)
    assert_computes(builder((8, 8, 3), 3, **TINY), formula_of(builder))
