"""Quantizers on Larq's layers of several kernels, or of another layout.

As in the tests of Larq, the oracle is Keras' layer of the same name, which gets inputs
and kernels that NumPy has quantized. The contract has dense layers and convolutions.
"""

import larq as lq
import numpy as np
import pytest
from larq_nobn._keras import keras
from larq_nobn.quantizers import (
    BinaryRegularized,
    BiPer,
    ReCU,
    ReSTE,
    RSign,
    ScaledStdSign,
    SigmoidSign,
    SignSwish,
)
from numpy.testing import assert_allclose
from quantizers.oracles import signs, square_wave, turned

WINDOW = {"filters": 3, "kernel_size": 2}
DEPTHWISE = {"kernel_size": 2, "depth_multiplier": 2}
LAYERS = {
    "DepthwiseConv2D": DEPTHWISE,
    "SeparableConv2D": WINDOW,
    "Conv2DTranspose": WINDOW,
    "LocallyConnected2D": WINDOW,
}
# The weight that multiplies the value of a quantizer, and the value otherwise.
KERNELS = {
    BiPer: ("gain", square_wave),
    ReCU: ("alpha", turned),
    ReSTE: (None, signs),
    SigmoidSign: (None, signs),
    SignSwish: (None, signs),
}


@pytest.fixture
def rng():
    keras.utils.set_random_seed(5)
    return np.random.default_rng(5)


def made(layer, rng, **quantizers):
    """A layer of Larq with weights that nothing is special about, and its input."""
    actual = getattr(lq.layers, f"Quant{layer}")(**LAYERS[layer], **quantizers)
    x = rng.normal(size=(2, 3, 4, 3)).astype("f4")
    actual(x)
    for weight in actual.trainable_weights:
        weight.assign(rng.uniform(-1, 1, weight.shape))
    return actual, x


def plain(layer, quantized, x, **kernels):
    """What Keras' layer gives, with these kernels."""
    actual = getattr(keras.layers, layer)(**LAYERS[layer])
    actual.build(x.shape)
    for name, kernel in kernels.items():
        getattr(actual, name).assign(kernel)
    actual.bias.assign(quantized.bias)
    return actual(x.astype("f4"))


def values(kind, quantizer, kernel):
    factor, oracle = KERNELS[kind]
    scale = 1 if factor is None else getattr(quantizer, factor).numpy()
    return scale * oracle(kernel.numpy().astype("f8"))


# Those by filter need the output channels on the last axis of the kernel.
@pytest.mark.parametrize(
    "layer, of_kernels",
    [
        ("SeparableConv2D", {"depthwise": ReSTE, "pointwise": ReCU}),
        ("SeparableConv2D", {"depthwise": SignSwish, "pointwise": BiPer}),
        ("DepthwiseConv2D", {"depthwise": SigmoidSign}),
        ("Conv2DTranspose", {"": SignSwish}),
        ("LocallyConnected2D", {"": ReSTE}),
    ],
)
def test_a_layer_sees_quantized_kernels_and_inputs(layer, of_kernels, rng):
    kinds = {f"{of}_kernel".strip("_"): kind for of, kind in of_kernels.items()}
    given = {f"{of or 'kernel'}_quantizer": kind() for of, kind in of_kernels.items()}
    actual, x = made(layer, rng, input_quantizer=RSign(scale=0.5), **given)
    pairs = zip(kinds.items(), given.values(), strict=True)
    quantized = {
        name: values(kind, quantizer, getattr(actual, name))
        for (name, kind), quantizer in pairs
    }
    shift = actual.input_quantizer.shift.numpy()
    expected = plain(layer, actual, signs(0.5 * x + shift), **quantized)
    assert_allclose(actual(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer, argument, quantizer",
    [
        ("DepthwiseConv2D", "depthwise_quantizer", lambda: ReCU()),
        ("SeparableConv2D", "depthwise_quantizer", lambda: BiPer()),
        ("Conv2DTranspose", "kernel_quantizer", lambda: ScaledStdSign()),
        (
            "LocallyConnected2D",
            "kernel_quantizer",
            lambda: BinaryRegularized("ste_sign", per_channel=True),
        ),
    ],
)
def test_kernels_without_filters_are_rejected(layer, argument, quantizer, rng):
    which = "the depthwise kernel" if "depth" in argument else "the kernel"
    message = (
        f"{type(quantizer()).__name__} needs one filter per output channel.*, which "
        rf"{which} of layer '.*' \(Quant{layer}\) does not have. Give it a quantizer"
    )
    # Larq's scope stays open after an error.
    with lq.context.quantized_scope(False), pytest.raises(ValueError, match=message):
        made(layer, rng, **{argument: quantizer()})
