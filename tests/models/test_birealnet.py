from functools import cache

import larq as lq
import numpy as np
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
from numpy.testing import assert_allclose

TINY = {"width": 4, "blocks": (2, 2)}
both = pytest.mark.parametrize("builder", [BiRealNet18, XNORNet18])


def test_parameter_count_on_cifar():
    """That of XNOR-Net, with batch norm, is in test_xnornet.py."""
    assert parameters(BiRealNet18((32, 32, 3), 100)) == 11_215_908


@cache
def counted(normalization):
    """The parameters of a small network."""
    small = {"width": 4, "blocks": (1, 1)}
    return parameters(BiRealNet18((32, 32, 3), 10, normalization, **small))


@pytest.mark.parametrize(
    "normalization, more",
    # A gain for each channel of a convolution, or γ and β.
    [("nobn", 24), ("batch_norm", 48)],
)
def test_parameters_beyond_those_without_normalization(normalization, more):
    assert counted(normalization) == counted("none") + more


@both
def test_the_stem_for_imagenet(builder):
    model = builder((64, 64, 3), 10, **TINY)
    order = [x.name for x in model.layers[1:5]]
    assert order == ["stem_conv", "stem_offset", "stem_act", "stem_pool"]
    assert model.get_layer("stem_conv").output_shape == (None, 32, 32, 4)
    assert model.get_layer("stem_pool").output_shape == (None, 16, 16, 4)
    assert parameters(model) - parameters(builder((32, 32, 3), 10, **TINY)) == 480


@both
def test_signs_have_no_shift_and_leaks_start_at_a_quarter(builder):
    model = builder((16, 16, 3), 3, **TINY)
    assert not any("shift" in weight.name for weight in model.weights)
    for name, channels in (("stem_act", 4), ("last_act", 8)):
        expected = np.full((1, 1, channels), 0.25)
        assert_allclose(model.get_layer(name).alpha, expected)


@both
def test_alpha_and_beta_live_in_the_quantizers(builder):
    model = builder((16, 16, 3), 3, alpha=0.25, variance_rule="nf", **TINY)
    second = model.get_layer("stage2_block1_conv")
    assert second.kernel_quantizer.scale == 0.25
    assert_allclose(second.input_quantizer.scale, 1.125**-0.5)
    shortcut = model.get_layer("stage2_block1_shortcut_conv")
    assert shortcut.kernel_quantizer.scale == 1
    assert shortcut.input_quantizer is None


@pytest.mark.parametrize("binary_weights, bits", [(True, 1), (False, 32)])
@both
def test_which_kernels_are_binary(builder, binary_weights, bits):
    model = builder((16, 16, 3), 3, binary_weights=binary_weights, **TINY)
    convs = [x for x in model.layers if isinstance(x, lq.layers.QuantConv2D)]
    assert len(convs) == 1 + 4 + 1
    for layer in convs:
        real = layer.name == "stem_conv" or (
            builder is BiRealNet18 and "shortcut" in layer.name
        )
        assert layer.kernel_quantizer.precision == (32 if real else bits)


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
                branch = 0.2 * conv(sign(x), binary_kernel(model, name), 1, strides)
                x = branch + (shortcut_of(builder, model, x) if strides == 2 else x)
        return classified(model, prelu(model, "last_act", x))

    return formula


@both
def test_forward_pass_equals_the_formula(builder):
    keras.utils.set_random_seed(4)
    assert_computes(builder((8, 8, 3), 3, **TINY), formula_of(builder))


@both
@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"input_shape": (4, 4, 3)}, ValueError, r"too small for this {}, .* 8 or"),
        ({"blocks": 4}, TypeError, "blocks=4 is not a list of blocks"),
        ({"alpha": 0}, ValueError, r"alpha=0 is outside \(0, inf\)"),
        ({"variance_rule": "he"}, ValueError, "must be one of vita.*; got 'he'"),
    ],
)
def test_rejects(builder, arguments, error, message):
    with pytest.raises(error, match=message.format(builder.__name__)):
        builder(**{"input_shape": (32, 32, 3), "classes": 10, **arguments})
