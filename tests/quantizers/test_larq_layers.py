"""Every quantizer on every layer of Larq, in all of their arguments.

As in the tests of Larq, the oracle is Keras' layer of the same name, which gets inputs
and kernels that NumPy has quantized.
"""

from itertools import cycle

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import quantizers
from larq_nobn._keras import keras
from larq_nobn.quantizers import (
    BernoulliSign,
    BinaryRegularized,
    BiPer,
    ProgressiveSign,
    ReCU,
    ReSTE,
    RSign,
    ScaledStandardization,
    ScaledStdSign,
    SigmoidSign,
    SignSwish,
)
from numpy.testing import assert_allclose
from quantizers.oracles import scaled_signs, signs, square_wave, standardized, turned

# Name of the layer without its Quant, input, arguments, and the kernels by argument.
KERNEL = {"kernel_quantizer": "kernel"}
DEPTHWISE = {"depthwise_quantizer": "depthwise_kernel"}
SEPARABLE = {**DEPTHWISE, "pointwise_quantizer": "pointwise_kernel"}
WINDOW = {"filters": 3, "kernel_size": 2}
LAYERS = {
    "Dense": ((2, 5), {"units": 3}, KERNEL),
    "Conv1D": ((2, 4, 3), WINDOW, KERNEL),
    "Conv2D": ((2, 3, 4, 3), WINDOW, KERNEL),
    "Conv3D": ((2, 3, 3, 2, 2), WINDOW, KERNEL),
    "DepthwiseConv2D": (
        (2, 3, 4, 3),
        {"kernel_size": 2, "depth_multiplier": 2},
        DEPTHWISE,
    ),
    "SeparableConv1D": ((2, 4, 3), WINDOW, SEPARABLE),
    "SeparableConv2D": ((2, 3, 4, 3), WINDOW, SEPARABLE),
    "Conv2DTranspose": ((2, 2, 3, 2), WINDOW, KERNEL),
    "Conv3DTranspose": ((2, 2, 2, 2, 2), WINDOW, KERNEL),
    "LocallyConnected1D": ((2, 4, 3), WINDOW, KERNEL),
    "LocallyConnected2D": ((2, 3, 3, 2), WINDOW, KERNEL),
}


# Quantizer, its arguments, the weight that multiplies a value, and the value otherwise.
# Those by filter need the output channels on the last axis of the kernel.
BY_WEIGHT = {
    "BernoulliSign": (BernoulliSign, {}, None, signs),
    "BinaryRegularized": (BinaryRegularized, {"quantizer": "ste_sign"}, None, signs),
    "BiPer": (BiPer, {"gain": False}, None, square_wave),
    "ReSTE": (ReSTE, {}, None, signs),
    "SigmoidSign": (SigmoidSign, {}, None, signs),
    "SignSwish": (SignSwish, {}, None, signs),
}
BY_FILTER = {
    "BiPer": (BiPer, {}, "gain", square_wave),
    "ReCU": (ReCU, {}, "alpha", turned),
    "ScaledStandardization": (ScaledStandardization, {}, "gain", standardized),
    "ScaledStdSign": (ScaledStdSign, {}, "gain", scaled_signs),
    "regularized ScaledStdSign": (
        BinaryRegularized,
        {"quantizer": "scaled_std_sign"},
        "gain",
        scaled_signs,
    ),
    "regularized per channel": (
        BinaryRegularized,
        {"quantizer": "ste_sign", "per_channel": True},
        None,
        signs,
    ),
}
INPUTS = {
    "ProgressiveSign": (ProgressiveSign, {"scale": 0.5, "fraction": 1.0}),
    "ReSTE": (ReSTE, {}),
    "RSign": (RSign, {"scale": 0.5}),
    "SigmoidSign": (SigmoidSign, {}),
    "SignSwish": (SignSwish, {}),
}

OTHER = ("Transpose", "LocallyConnected")


def suits(layer, argument):
    """Whether the last axis of this kernel holds output channels of one filter each."""
    return argument != "depthwise_quantizer" and not any(
        name in layer for name in OTHER
    )


def cells():
    """Pairs of a kernel's place and a quantizer, and in turn every one of the inputs.

    Of those by filter two in every place that suits them, so that each stands in two
    of the six; of those by weight, whose values do not depend on the kernel's shape,
    one in every place.
    """
    by_weight, inputs = cycle(BY_WEIGHT.items()), cycle(INPUTS.items())
    by_filter = cycle(BY_FILTER.items())
    for layer, (_, _, kernels) in LAYERS.items():
        for argument in kernels:
            count = 2 if suits(layer, argument) else 0
            quantizers = [next(by_weight), *(next(by_filter) for _ in range(count))]
            for name, row in quantizers:
                other, of_inputs = next(inputs)
                place = f"{layer}-{argument}-{name}-of-{other}"
                yield pytest.param(layer, argument, row, of_inputs, id=place)


# Each of those by filter, and each place that does not suit them.
UNSUITED = [
    (layer, argument)
    for layer, (_, _, kernels) in LAYERS.items()
    for argument in kernels
    if not suits(layer, argument)
]
REFUSED = [
    pytest.param(*place, *row[:2], id=f"{'-'.join(place)}-{name}")
    for place, (name, row) in zip(UNSUITED, cycle(BY_FILTER.items()), strict=False)
]


@pytest.fixture
def rng():
    keras.utils.set_random_seed(5)
    return np.random.default_rng(5)


def made(layer, rng, **quantizer):
    """A layer of Larq with weights that nothing is special about, and its input."""
    shape, arguments, _ = LAYERS[layer]
    found = getattr(lq.layers, f"Quant{layer}")(**arguments, **quantizer)
    x = rng.normal(size=shape).astype("f4")
    found(x)
    for weight in found.trainable_weights:
        weight.assign(rng.uniform(-1, 1, weight.shape))
    return found, x


def plain(layer, quantized, x, **kernels):
    """What Keras' layer gives, with some kernels in the place of those it has."""
    shape, arguments, known = LAYERS[layer]
    found = getattr(keras.layers, layer)(**arguments)
    found.build(shape)
    for name in known.values():
        kernel = kernels.get(name)
        latent = getattr(quantized, name)
        getattr(found, name).assign(latent.numpy() if kernel is None else kernel)
    found.bias.assign(quantized.bias)
    return found(x.astype("f4"))


def trained(layer, x):
    """The output of a training step, in which everything gets a gradient."""
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        output = layer(inputs, training=True)
        upstream = tf.cast(tf.range(tf.size(output)) % 5 - 1, tf.float32)
        loss = tf.reduce_sum(tf.reshape(output, [-1]) * upstream)
        loss += sum(layer.losses)
    for gradient in tape.gradient(loss, [inputs, *layer.trainable_weights]):
        assert np.isfinite(gradient).all()
        assert np.any(gradient)
    return output


def test_every_quantizer_and_layer_is_in_the_table():
    rows = [*BY_WEIGHT.values(), *BY_FILTER.values(), *INPUTS.values()]
    assert {row[0].__name__ for row in rows} == set(quantizers.__all__)
    larqs = {
        name
        for name, member in vars(lq.layers).items()
        if getattr(member, "__module__", None) == "larq.layers" and "Quant" in name
    }
    assert larqs == {f"Quant{name}" for name in LAYERS}
    for layer, (_, _, kernels) in LAYERS.items():
        arguments = getattr(lq.layers, f"Quant{layer}")(**LAYERS[layer][1]).get_config()
        found = {name for name in arguments if name.endswith("_quantizer")}
        assert found == {"input_quantizer", *kernels}


@pytest.mark.parametrize("layer, argument, of_kernel, of_inputs", [*cells()])
def test_a_layer_sees_quantized_kernels_and_inputs(
    layer, argument, of_kernel, of_inputs, rng
):
    kind, arguments, factor, oracle = of_kernel
    quantizer, signed = kind(**arguments), of_inputs[0](**of_inputs[1])
    found, x = made(layer, rng, input_quantizer=signed, **{argument: quantizer})
    name = LAYERS[layer][2][argument]
    value = oracle(getattr(found, name).numpy().astype("f8"))
    if factor is not None:
        inside = getattr(quantizer, "quantizer", quantizer)
        value = value * getattr(inside, factor).numpy()
    scale, shift = getattr(signed, "scale", 1), getattr(signed, "shift", 0)
    expected = plain(
        layer, found, signs(scale * x + np.asarray(shift)), **{name: value}
    )
    output = trained(found, x)
    if kind is BernoulliSign:  # which draws a kernel in training
        output = found(x)
    assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer, argument, kind, arguments", REFUSED)
def test_kernels_without_filters_are_rejected(layer, argument, kind, arguments, rng):
    which = "the depthwise kernel" if "depth" in argument else "the kernel"
    message = (
        f"{kind.__name__} needs one filter per output channel.*, which {which} of "
        rf"layer '.*' \(Quant{layer}\) does not have. Give it a quantizer of single "
    )
    # Larq's scope stays open after an error.
    with lq.context.quantized_scope(False), pytest.raises(ValueError, match=message):
        made(layer, rng, **{argument: kind(**arguments)})
