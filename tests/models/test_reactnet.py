from functools import partial
from inspect import signature

import numpy as np
from larq_nobn._keras import keras
from larq_nobn.models import (
    ModelProfile,
    ReActNet18,
    ReActNet34,
    ReCUResNet18,
    ReCUResNet34,
)
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

TINY = {"width": 4, "blocks": (2, 2)}


def test_parameter_counts_of_the_published_networks():
    assert signature(ReActNet18).parameters["blocks"].default == (4, 4, 4, 4)
    model = ReActNet18((224, 224, 3), 1000, blocks=(1, 1, 1, 1))
    # Three more blocks a stage: kernels, and gain, shift and RPReLU per channel.
    more = sum(3 * (9 * f**2 + 5 * f) for f in (64, 128, 256, 512))
    assert parameters(model) + more == 11_699_624
    # On CIFAR-10 the stem and the head are smaller; what is between is the same.
    large, small = (
        parameters(ReActNet18((side, side, 3), 10, blocks=(1,))) for side in (224, 32)
    )
    assert 11_699_624 - 990 * (512 + 1) - (large - small) == 11_184_074
    assert model.get_layer("stage1_block1_conv").input_shape == (None, 56, 56, 64)
    assert model.get_layer("stage4_block1_act").output_shape == (None, 7, 7, 512)
    small = {"width": 4, "blocks": (1, 1)}
    bare, free, normalized = (
        parameters(ReActNet18((8, 8, 3), 10, normalization, **small))
        for normalization in ("none", "nobn", "batch_norm")
    )
    # A gain for each channel of a convolution, or γ and β.
    assert (free - bare, normalized - bare) == (24, 48)


def test_counts_of_the_deeper_network():
    """Those of ReActNet's code, in which a block has a sign, a norm and an RPReLU."""
    blocks = (6, 8, 12, 6)
    assert signature(ReActNet34).parameters["blocks"].default == blocks
    # Of the first block of each stage, and of three further ones.
    model = ReActNet34((224, 224, 3), 1000, "batch_norm", blocks=(1, 1, 1, 1))
    weights, profile = parameters(model), ModelProfile(model)
    binary, real = profile.op_count("mac", 1), profile.op_count("mac", 32)
    for stage, count in enumerate(blocks):
        width, side = 64 * 2**stage, 56 // 2**stage
        weights += (count - 1) * (9 * width**2 + 6 * width)
        binary += (count - 1) * 9 * width**2 * side**2
    said = " ".join(ReActNet34.__doc__.split())
    assert f"{weights:,} weights are trained" in said
    assert f"{binary / 1e6:,.0f} million binary and {real / 1e6:.0f} million" in said
    assert round((binary / 64 + real) / 1e8, 2) == 1.93


def test_counts_of_recu():
    """Those of its code: a factor for each filter of ReActNet's."""
    said = " ".join(ReCUResNet18.__doc__.split())
    for builder, counted in ((ReCUResNet18, 11_704_424), (ReCUResNet34, 21_827_432)):
        blocks = signature(builder).parameters["blocks"].default
        filters = sum(64 * 2**stage * count for stage, count in enumerate(blocks))
        assert f"`{builder.__name__}` | {counted + filters:,} |" in said
    small = {"normalization": "batch_norm", **TINY}
    plain, own = (
        parameters(x((8, 8, 3), 3, **small)) for x in (ReActNet18, ReCUResNet18)
    )
    assert own - plain == 2 * 4 + 2 * 8


def formula_of_recu(model, images):
    def norm(name, x):
        gamma, beta, *_ = (w.numpy() for w in model.get_layer(f"{name}_norm").weights)
        return gamma * x / np.sqrt(1 + 1e-5) + beta  # of moving statistics at 0 and 1

    x = norm("stem", conv(images, model.get_layer("stem_conv").kernel.numpy(), 0, 1))
    for stage in (1, 2):
        for block in (1, 2):
            name = f"stage{stage}_block{block}"
            layer = model.get_layer(f"{name}_conv")
            latent = layer.kernel.latent_variable.numpy().astype(np.float64)
            signs = sign(latent - latent.mean((0, 1, 2)))
            read = sign(x + layer.input_quantizer.shift.numpy())
            strides = 2 if (stage, block) == (2, 1) else 1
            branch = conv(
                read, layer.kernel_quantizer.alpha.numpy() * signs, 1, strides
            )
            if strides == 2:
                shortcut = f"{name}_shortcut"
                kernel = model.get_layer(f"{shortcut}_conv").kernel.numpy()
                x = norm(shortcut, conv(average(x), kernel, 0, 1))
            x = rprelu(model, f"{name}_act", norm(name, branch) + x)
    return classified(model, x)


def test_forward_pass_of_recu():
    keras.utils.set_random_seed(4)
    model = ReCUResNet18((8, 8, 3), 3, "batch_norm", **TINY)
    latent = model.get_layer("stage2_block1_conv").kernel.latent_variable.numpy()
    assert 0.1 < latent.std() / (2 / (9 * 4)) ** 0.5 < 1.2  # He's, not ±0.001
    assert_computes(model, formula_of_recu)


def formula(model, x, published=False):
    x = conv(x, real_kernel(model, "stem_conv"), 0, 1)
    alpha, variances = 0.5, [[1.0, 1.25], [1.5, 1.25]]
    if published:
        alpha, variances = 0.2, [[1.0, 1.0], [1 + 0.2**2, 1.0]]
    for stage in (1, 2):
        for block in (1, 2):
            name = f"stage{stage}_block{block}"
            beta = variances[stage - 1][block - 1] ** -0.5
            strides = 2 if (stage, block) == (2, 1) else 1
            shift = model.get_layer(f"{name}_conv").input_quantizer.shift.numpy()
            kernel = binary_kernel(model, f"{name}_conv")
            branch = alpha * conv(sign(beta * x + shift), kernel, 1, strides)
            if strides == 2:
                kernel = binary_kernel(model, f"{name}_shortcut_conv")
                x = conv(average(x if published else beta * x), kernel, 0, 1)
            x = rprelu(model, f"{name}_act", branch + x)
    return classified(model, x)


def test_forward_pass_equals_the_formula():
    keras.utils.set_random_seed(4)
    assert_computes(ReActNet18((8, 8, 3), 3, **TINY), formula)


def test_forward_pass_of_the_published_quantized_form():
    keras.utils.set_random_seed(4)
    forms = {**PUBLISHED, "scaled_shortcut": False, "power_of_two": True}
    model = ReActNet18((8, 8, 3), 3, **forms, **TINY)
    assert model.get_layer("stage2_block2_act").power_of_two is True
    assert_computes(model, partial(formula, published=True))
