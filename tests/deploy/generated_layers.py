"""The layers and quantizers that generated networks are made of.

Each table maps a class to a function that makes one, with options drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn import layers as own
from larq_nobn import quantizers
from larq_nobn._keras import keras

layers = keras.layers
Draw = np.random.Generator
Table = dict[type, Callable[[Draw], Any]]


def chance(draw: Draw, probability: float) -> bool:
    return bool(draw.random() < probability)


def one_of(draw: Draw, options: Sequence[Any]) -> Any:
    return options[draw.integers(len(options))]


def made(draw: Draw, table: Table) -> Any:
    """A layer of a class of the table; all are as likely."""
    return one_of(draw, list(table.values()))(draw)


def geometry(draw: Draw, size: tuple[int, ...], zero_padding: bool) -> dict[str, Any]:
    """Arguments of a convolution of a map of this size."""
    stretch = one_of(draw, ["", "", "strides", "dilation_rate"])
    reach = 5 if stretch == "dilation_rate" else 3
    valid = min(size) > reach and chance(draw, 0.3)
    found = {
        "filters": one_of(draw, [4, 6, 8, 34]),  # in two groups of two or more
        "kernel_size": one_of(draw, [1, 3, 3, (1, 3)]),
        "padding": "valid" if valid else "same",
        "pad_values": 0.0 if valid or zero_padding else 1.0,
        "use_bias": chance(draw, 0.3),
        "activation": one_of(draw, [None] * 6 + ["relu", "relu6", "tanh"]),
    }
    return {**found, stretch: 2} if stretch else found


@keras.utils.register_keras_serializable("generated")
def centered(x: Any) -> Any:
    return x - tf.reduce_mean(x, 1, keepdims=True)


@keras.utils.register_keras_serializable("generated")
def normalized(x: Any) -> Any:
    return tf.math.l2_normalize(x + 0.01, axis=1)


@keras.utils.register_keras_serializable("generated")
def over_time(x: Any) -> Any:
    return tf.nn.softmax(x, axis=1) - 0.1


@keras.utils.register_keras_serializable("generated")
def backward(x: Any) -> Any:
    return tf.reverse(x, [1])


# Over the first axis after that of the batch, whatever the shape.
FRONT_AXIS = (centered, normalized, over_time, backward)

NORMS: Table = {
    layers.BatchNormalization: lambda draw: layers.BatchNormalization(
        scale=chance(draw, 0.8), center=chance(draw, 0.8)
    ),
    layers.LayerNormalization: lambda draw: layers.LayerNormalization(),
    layers.GroupNormalization: lambda draw: layers.GroupNormalization(2),
    own.BatchKalmanNormalization: lambda draw: own.BatchKalmanNormalization(),
    own.IndependentComponent: lambda draw: own.IndependentComponent(0.0),
    own.ActivationStandardization: lambda draw: own.ActivationStandardization(),
    own.FilterResponseNormalization: lambda draw: own.FilterResponseNormalization(
        learned_epsilon=chance(draw, 0.5), center=chance(draw, 0.8)
    ),
    own.ProxyNormalization: lambda draw: own.ProxyNormalization(
        one_of(draw, ["relu", "linear", "tanh"]), groups=one_of(draw, [1, 2])
    ),
    own.EvoNormS0: lambda draw: own.EvoNormS0(groups=2),
}
AFFINE: Table = {
    own.ChannelAffine: lambda draw: own.ChannelAffine(),
    own.SkipInit: lambda draw: own.SkipInit("ones"),
    layers.Rescaling: lambda draw: layers.Rescaling(
        one_of(draw, [0.5, 3.0, -0.7, 1e-3]), one_of(draw, [0.0, 0.0, 0.2])
    ),
    layers.Dropout: lambda draw: layers.Dropout(0.1),
    layers.GaussianNoise: lambda draw: layers.GaussianNoise(0.1),
    own.SignFlipDropout: lambda draw: own.SignFlipDropout(),
}
ACTIVATIONS: Table = {
    layers.ReLU: lambda draw: layers.ReLU(
        max_value=one_of(draw, [None, None, 6.0, 1.0]),
        negative_slope=one_of(draw, [0.0, 0.0, 0.2]),
        # None of the numbers that maps are made of: a ReLU jumps there.
        threshold=one_of(draw, [0.0, 0.0, 0.13]),
    ),
    layers.PReLU: lambda draw: layers.PReLU(
        shared_axes=one_of(draw, [[1, 2], [1, 2], None])
    ),
    layers.LeakyReLU: lambda draw: layers.LeakyReLU(one_of(draw, [0.1, 0.3])),
    layers.ELU: lambda draw: layers.ELU(),
    layers.Activation: lambda draw: layers.Activation(
        one_of(draw, ["relu", "relu6", "tanh", "sigmoid", "hard_sigmoid", "swish"])
    ),
    own.RPReLU: lambda draw: own.RPReLU(),
    own.ThresholdedLinearUnit: lambda draw: own.ThresholdedLinearUnit(),
}
POOLS: Table = {
    layers.MaxPooling2D: lambda draw: layers.MaxPooling2D(
        one_of(draw, [2, 3]), one_of(draw, [1, 2]), padding="same"
    ),
    layers.AveragePooling2D: lambda draw: layers.AveragePooling2D(
        one_of(draw, [2, 3]), one_of(draw, [1, 2]), padding="same"
    ),
}
FRAMES: Table = {
    layers.ZeroPadding2D: lambda draw: layers.ZeroPadding2D(1),
    layers.Cropping2D: lambda draw: layers.Cropping2D(((1, 0), (0, 1))),
    layers.UpSampling2D: lambda draw: layers.UpSampling2D(
        2, interpolation=one_of(draw, ["nearest", "bilinear"])
    ),
}
MERGES: Table = {
    layers.Add: lambda draw: layers.Add(),
    layers.Subtract: lambda draw: layers.Subtract(),
    layers.Average: lambda draw: layers.Average(),
    layers.Maximum: lambda draw: layers.Maximum(),
    layers.Minimum: lambda draw: layers.Minimum(),
    layers.Multiply: lambda draw: layers.Multiply(),
    layers.Concatenate: lambda draw: layers.Concatenate(),
}
SIGNS: Table = {
    lq.quantizers.SteSign: lambda draw: lq.quantizers.SteSign(
        clip_value=one_of(draw, [1.0, 1.3])
    ),
    lq.quantizers.ApproxSign: lambda draw: lq.quantizers.ApproxSign(),
    lq.quantizers.SwishSign: lambda draw: lq.quantizers.SwishSign(),
    quantizers.RSign: lambda draw: quantizers.RSign(
        scale=one_of(draw, [1.0, 0.5]), shift=chance(draw, 0.8)
    ),
    quantizers.SigmoidSign: lambda draw: quantizers.SigmoidSign(),
    quantizers.SignSwish: lambda draw: quantizers.SignSwish(
        trainable_beta=chance(draw, 0.3)
    ),
}
BINARY_KERNELS: Table = {
    lq.quantizers.SteSign: lambda draw: lq.quantizers.SteSign(),
    lq.quantizers.MagnitudeAwareSign: lambda draw: lq.quantizers.MagnitudeAwareSign(),
    quantizers.ReCU: lambda draw: quantizers.ReCU(),
    quantizers.ScaledStdSign: lambda draw: quantizers.ScaledStdSign(
        gain=chance(draw, 0.8), scale=one_of(draw, [1.0, 0.2])
    ),
    quantizers.BinaryRegularized: lambda draw: quantizers.BinaryRegularized(
        one_of(draw, ["ste_sign", "swish_sign"]), order=one_of(draw, [1, 2])
    ),
}
REAL_KERNELS: Table = {
    type(None): lambda draw: None,
    quantizers.ScaledStandardization: lambda draw: quantizers.ScaledStandardization(
        gain=chance(draw, 0.8)
    ),
}
TABLES = (
    *(NORMS, AFFINE, ACTIVATIONS, POOLS, FRAMES, MERGES),
    *(SIGNS, BINARY_KERNELS, REAL_KERNELS),
)
PLACED = {
    own.BatchNormalizationPreconditioning,  # around convolutions, see `generated`
    *(kind for table in TABLES for kind in table),
}
# Public classes that no generated network contains.
EXCEPTIONS = {
    own.DynamicTanh: "would change the drawn networks; see test_dynamic_tanh.py",
    own.LeakyIntegrateAndFire: "takes sequences, (batch, time, ...), not maps",
    own.FakeQuantization: "is rejected unless int8 is asked for",
    own.SymmetricHead: "takes vectors, not maps; see test_symmetric_head.py",
    quantizers.BernoulliSign: "at inference a plain sign; see test_bernoulli_sign.py",
    quantizers.BiPer: "would change the drawn networks; see test_biper.py",
    quantizers.ProgressiveSign: "at inference an RSign; see test_progressive_sign.py",
    quantizers.ReSTE: "would change the drawn networks; see test_estimators.py",
}
