"""Layers of mixed precision that are made again in float32, by their own config alone.

The oracle is the layer built in float32 throughout, with the same weights.
"""

from itertools import cycle

import larq as lq
import numpy as np
from larq_nobn import quantizers
from larq_nobn._keras import dtype_policy

LARQ = [
    *("ste_sign", "approx_sign", "swish_sign", "ste_tern", "ste_heaviside"),
    *("magnitude_aware_sign", "dorefa_quantizer"),
]
KERNELS = [
    *(None, *LARQ, "reste", "sign_swish", "sigmoid_sign", "bernoulli_sign", "recu"),
    *("scaled_std_sign", "scaled_standardization", "biper"),
    lambda: quantizers.BinaryRegularized("ste_sign"),
    lambda: quantizers.BinaryRegularized("scaled_std_sign"),
]
INPUTS = [
    *(None, *LARQ[:5], "dorefa_quantizer", "rsign", "reste", "sign_swish"),
    *("sigmoid_sign", "progressive_sign"),
]
X = np.random.default_rng(1).normal(size=(2, 3, 3, 2)).astype("f4")


def made(policy, of_inputs, of_kernel, **kwargs):
    with dtype_policy(policy):
        return lq.layers.QuantConv2D(
            4,
            2,
            input_quantizer=of_inputs() if callable(of_inputs) else of_inputs,
            kernel_quantizer=of_kernel() if callable(of_kernel) else of_kernel,
            **kwargs,
        )


def in_float32(layer):
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})


# What a layer computes depends on one of its quantizers at a time.
def test_every_quantizer_computes_in_the_type_of_its_layer():
    halves = cycle(["float16", "bfloat16"])
    for of_kernel, of_inputs, half in zip(KERNELS, cycle(INPUTS), halves, strict=False):
        layer = made(f"mixed_{half}", of_inputs, of_kernel)
        assert layer(X).dtype == half
        again, whole = in_float32(layer), made("float32", of_inputs, of_kernel)
        for changed in (whole, again):
            assert changed(X).dtype == "float32", (of_inputs, of_kernel)
            changed.set_weights(layer.get_weights())
        assert {weight.dtype.name for weight in again.weights} == {"float32"}
        np.testing.assert_array_equal(again(X), whole(X), f"{of_inputs}, {of_kernel}")
