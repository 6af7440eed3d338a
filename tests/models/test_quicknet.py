from inspect import signature

import larq as lq
import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.models import QuickNet, QuickNetLarge, QuickNetSmall
from larq_nobn.models._blur_pool import blur_pool
from models.dense_reference import MEAN, SCALE, relu
from models.networks import scattered
from models.reference import (
    assert_computes,
    binary_kernel,
    classified,
    conv,
    parameters,
    real_kernel,
    sign,
)
from numpy.testing import assert_allclose, assert_array_equal

TINY = {"width": 8, "blocks": (1, 2)}
BLUR = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def counted(filters, blocks, classes, free):
    """Weights that train and those that do not, for large images of three channels.

    Of batch norm every kernel has a gain and a bias, and two statistics; without, the
    gains and the shifts of the signs are left, and no gain behind the depthwise kernel.
    """
    quarter, first = filters[0] // 4, filters[0]
    trained = 9 * 3 * quarter + 9 * quarter + quarter * first
    outputs = quarter + first + sum(n * f for n, f in zip(blocks, filters, strict=True))
    outputs += sum(filters[1:])
    trained += sum(9 * n * f**2 for n, f in zip(blocks, filters, strict=True))
    trained += sum(a * b for a, b in zip(filters, filters[1:], strict=False))
    trained += (filters[-1] + 1) * classes
    blurs = 9 * sum(filters[:-1])
    if free:
        shifts = sum(n * f for n, f in zip(blocks, filters, strict=True))
        return trained + outputs + shifts, blurs
    return trained + 2 * outputs, blurs + 2 * (outputs + quarter)


# Of `larq_zoo.sota.QuickNet` and its siblings, built at larq-zoo 77c5853 with
# weights=None for 224x224x3: trained, and not trained.
PUBLISHED = {
    QuickNetSmall: (12_652_504, 11_840, (32, 64, 256, 512), (4, 4, 4, 4)),
    QuickNet: (13_230_024, 13_696, (64, 128, 256, 512), (4, 4, 4, 4)),
    QuickNetLarge: (23_338_184, 21_120, (64, 128, 256, 512), (6, 8, 12, 6)),
}


def test_parameters_as_published():
    for builder, (trained, fixed, filters, blocks) in PUBLISHED.items():
        assert counted(filters, blocks, 1000, False) == (trained, fixed)
        defaults = signature(builder).parameters
        assert defaults["width"].default == filters[0]
        assert defaults["blocks"].default == blocks
    # Of a block of every stage, since depth repeats what the formula has.
    filters = PUBLISHED[QuickNetSmall][2]
    one = (1, 1, 1, 1)
    model = QuickNetSmall((224, 224, 3), 1000, "batch_norm", blocks=one)
    of_one = counted(filters, one, 1000, False)
    assert (parameters(model), model.count_params()) == (of_one[0], sum(of_one))
    convs = [f"stage{n}_block1_conv" for n in (1, 2, 3, 4)]
    outputs = [model.get_layer(name).output_shape[1:] for name in convs]
    assert outputs == [(56 // 2**n, 56 // 2**n, f) for n, f in enumerate(filters)]


def depthwise(x, kernel, strides):
    """A convolution of every channel on its own; the kernel is (h, w, channels)."""
    return conv(x, kernel[..., None] * np.eye(kernel.shape[-1]), 0, strides)


def normalized(model, name, x):
    """What stands behind a convolution, from a batch norm's weights if there is one."""
    if f"{name}_norm" not in [layer.name for layer in model.layers]:
        return x
    norm = model.get_layer(f"{name}_norm")
    values = {w.name.split("/")[-1].split(":")[0]: w.numpy() for w in norm.weights}
    rate = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + 1e-5)
    return (x - values["moving_mean"]) * rate + values.get("beta", 0.0)


def real(model, name, scale):
    if isinstance(model.get_layer(f"{name}_conv"), keras.layers.DepthwiseConv2D):
        return model.get_layer(f"{name}_conv").depthwise_kernel.numpy()[..., 0]
    if model.get_layer(f"{name}_conv").kernel_quantizer is None:
        return model.get_layer(f"{name}_conv").kernel.numpy().astype(np.float64)
    return scale * real_kernel(model, f"{name}_conv")


def branch(model, name, x, alpha, beta):
    layer = model.get_layer(f"{name}_conv")
    if isinstance(layer.kernel_quantizer, lq.quantizers.MagnitudeAwareSign):
        w = layer.kernel.latent_variable.numpy().astype(np.float64)
        kernel = sign(w) * np.abs(w).mean((0, 1, 2))
        return normalized(model, name, relu(conv(sign(x), kernel, 1, 1)))
    signs = sign(beta * x + layer.input_quantizer.shift.numpy())
    y = conv(signs, SCALE * alpha * binary_kernel(model, f"{name}_conv"), 1, 1)
    return relu(y) - alpha * MEAN


def formula(alpha, betas, behind):
    """Of a network of one block and two; the factors are those of the signs."""

    def computed(model, images):
        if images.shape[1] < 64:
            x = normalized(model, "stem", conv(images, real(model, "stem", 1), 0, 1))
        else:
            x = conv(images, real(model, "stem1", 2**0.5), 0, 2)
            x = relu(normalized(model, "stem1", x))
            x = depthwise(x, real(model, "stem2", 1), 2)
            x = normalized(model, "stem2", x)
            x = conv(x, real(model, "stem3", 1), 0, 1)
            x = normalized(model, "stem3", x)
        names = ("stage1_block1", "stage2_block1", "stage2_block2")
        for name, beta in zip(names, betas, strict=True):
            if name == "stage2_block1":
                x = relu(x)
                x = np.maximum(x[:, 1:], x[:, :-1])
                x = np.maximum(x[:, :, 1:], x[:, :, :-1])
                x = depthwise(x, np.repeat(BLUR[..., None], x.shape[-1], -1), 2)
                x = conv(x, real(model, "transition1", SCALE * behind), 0, 1)
                x = normalized(model, "transition1", x)
            x = x + branch(model, name, x, alpha, beta)
        return classified(model, relu(x))

    return computed


@pytest.mark.parametrize(
    "side, rule, betas, behind",
    [
        (64, "vita", (1, 1, 1), 1),
        (8, "nf", (1, 1, 1.25**-0.5), 1.25**-0.5),
        (64, None, (1, 1, 1), 1),
    ],
)
def test_forward_pass_equals_the_formula(side, rule, betas, behind):
    keras.utils.set_random_seed(4)
    changes = {"variance_rule": rule, "alpha": 0.5} if rule else {}
    normalization = "nobn" if rule else "batch_norm"
    model = QuickNet((side, side, 3), 3, normalization, **TINY, **changes)
    assert_computes(scattered(model), formula(0.5, betas, behind))


def test_the_blur_is_binomial_and_stays(tmp_path):
    keras.utils.set_random_seed(1)
    image = keras.Input((7, 7, 2))
    y = keras.layers.Conv2D(2, 1, name="trained")(image)
    model = keras.Model(image, blur_pool("blur")(y))
    model.compile("sgd", "mse", run_eagerly=True)
    x = np.random.default_rng(1).normal(size=(4, 7, 7, 2)).astype(np.float32)
    model.train_on_batch(x, np.ones((4, 4, 4, 2)))
    model.save(tmp_path / "model.keras")
    kernel = np.repeat(BLUR[..., None], 2, -1)
    for other in (
        model,
        keras.models.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ):
        blur = other.get_layer("blur")
        assert_array_equal(blur.depthwise_kernel[..., 0], kernel)
        assert not blur.trainable
        assert_allclose(blur(x), depthwise(x.astype(np.float64), kernel, 2), atol=1e-6)
