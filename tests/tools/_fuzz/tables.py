"""The layers and quantizers that random networks are made of.

A table maps a class to a function that makes one, with options drawn at random; a list
contains such functions. Some cannot be converted, or not as what they are: then a
refusal in words is right, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import tensorflow as tf
from larq_nobn import layers as own
from larq_nobn import quantizers
from larq_nobn._keras import keras

from . import users
from .users import Draw, chance, one_of

layers = keras.layers
Table = dict[type, Callable[[Draw], Any]]


def made(draw: Draw, table: Table) -> Any:
    """A layer of a class of the table; all are as likely."""
    return one_of(draw, list(table.values()))(draw)


def geometry(draw: Draw, size: tuple[int, ...], zero_padding: bool) -> dict[str, Any]:
    """Arguments of a convolution of a map of this size."""
    stretch = one_of(draw, ["", "", "strides", "dilation_rate"])
    reach = 5 if stretch == "dilation_rate" else 3
    valid = min(size) > reach and chance(draw, 0.3)
    actual = {
        "filters": one_of(draw, [4, 6, 8, 34]),  # in two groups of two or more
        "kernel_size": one_of(draw, [1, 3, 3, (1, 3)]),
        "padding": "valid" if valid else "same",
        "pad_values": 0.0 if valid or zero_padding else 1.0,
        "use_bias": chance(draw, 0.3),
        "activation": one_of(draw, [None] * 6 + ["relu", "relu6", "tanh"]),
    }
    return {**actual, stretch: 2} if stretch else actual


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


# --- what conversion may reject, too

_ACTIVATIONS = (*[None] * 6, "relu", "relu6", "tanh", "softplus", "hard_sigmoid")
_FILTERS = (1, 2, 3, 4, 6, 8, 8, 16, 16, 32, 33, 64)


@keras.utils.register_keras_serializable("fuzz")
class Scale(layers.Layer):
    """A user's layer: a weight per channel, and two operations."""

    def build(self, input_shape):
        self.factor = self.add_weight("factor", (input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor - 0.25


@keras.utils.register_keras_serializable("fuzz")
class Holder(layers.Layer):
    """A user's layer that contains a binary one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = lq.layers.QuantConv2D(
            8,
            3,
            padding="same",
            pad_values=1.0,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
        )

    def call(self, inputs):
        return tf.nn.relu(self.inner(inputs))


def activation_quantizer(draw):
    """For inputs: mostly a sign, one of few bits or of the user's, or none."""
    if chance(draw, 0.1):
        return users.input_quantizer(draw)
    if chance(draw, 0.75):
        return made(draw, SIGNS)
    return one_of(draw, _OTHER_INPUTS)(draw)


def kernel_quantizer(draw):
    if chance(draw, 0.1):
        return users.kernel_quantizer(draw)
    if chance(draw, 0.8):
        return made(draw, BINARY_KERNELS)
    return one_of(draw, _OTHER_KERNELS)(draw)


_OTHER_INPUTS = (
    lambda draw: None,
    lambda draw: "ste_heaviside",
    lambda draw: "ste_heaviside",
    lambda draw: lq.quantizers.DoReFa(one_of(draw, [2, 3])),
    lambda draw: lq.quantizers.SteTern(threshold_value=0.1),
    lambda draw: quantizers.ReSTE(),
    lambda draw: quantizers.BernoulliSign(),
)
_OTHER_KERNELS = (
    lambda draw: None,
    lambda draw: "ste_heaviside",
    lambda draw: lq.quantizers.DoReFa(2, mode="weights"),
    lambda draw: lq.quantizers.SteTern(),
    lambda draw: lq.quantizers.SteTern(ternary_weight_networks=True),
    lambda draw: quantizers.ScaledStandardization(),
    lambda draw: quantizers.BernoulliSign(),
    lambda draw: "approx_sign",
    lambda draw: "swish_sign",
)


def common(draw):
    """What all convolutions take."""
    return {
        "filters": int(one_of(draw, _FILTERS)),
        "use_bias": chance(draw, 0.4),
        "activation": one_of(draw, _ACTIVATIONS),
    }


def window(draw, size, stretched=True):
    """Kernel, strides, dilation and padding for a map of this size, that fit it."""
    kernel = tuple(
        int(n) for n in one_of(draw, [(1, 1), (2, 2), (3, 3), (3, 3), (3, 3), (5, 5)])
    )
    if chance(draw, 0.2):
        kernel = one_of(draw, [(1, 3), (3, 1), (2, 3)])
    actual = {"kernel_size": kernel, "padding": one_of(draw, ["same", "same", "valid"])}
    stretch = one_of(draw, ["", "", "strides", "dilation_rate"]) if stretched else ""
    if stretch:
        actual[stretch] = 2
    dilation = 2 if stretch == "dilation_rate" else 1
    reach = [(k - 1) * dilation + 1 for k in kernel]
    if any(s < r for s, r in zip(size, reach, strict=True)):
        actual["padding"] = "same"
    return actual


def larq_convolution(draw, size, channels, with_input=True):
    """Any `QuantConv2D`."""
    actual = {**common(draw), **window(draw, size)}
    actual["pad_values"] = one_of(draw, [0.0, 0.0, 1.0, 1.0, 1.0, -1.0, 0.5])
    if actual["padding"] == "valid":
        actual["pad_values"] = 0.0
    if chance(draw, 0.15):
        whole = [g for g in (2, 4) if channels % g == 0]
        if whole:
            actual["groups"] = groups = one_of(draw, whole)
            actual["filters"] = groups * max(1, actual["filters"] // groups)
    return lq.layers.QuantConv2D(
        **actual,
        input_quantizer=activation_quantizer(draw) if with_input else None,
        kernel_quantizer=kernel_quantizer(draw),
        kernel_constraint="weight_clip",
    )


def _kernel_of(draw, kind):
    """Quantizers of a layer of Larq, which has one kernel or two."""
    names = ("kernel_quantizer",)
    if kind in ("Depthwise", "Separable"):
        names = ("depthwise_quantizer", "pointwise_quantizer")
    names = names[: 1 + (kind == "Separable")]
    actual = {name: kernel_quantizer(draw) for name in names}
    return {"input_quantizer": activation_quantizer(draw), **actual}


def other(draw, size, binary):
    """A layer for maps, other than a convolution, of Larq or of Keras."""
    kind = one_of(
        draw, ["Depthwise", "Separable", "Transposed", "Local", "Dense", "Dense"]
    )
    kinds = _LARQ if binary else _KERAS
    options = {**common(draw), **(_kernel_of(draw, kind) if binary else {})}
    if kind == "Dense":
        options["units"] = options.pop("filters")
        return kinds[kind](**options)
    if kind == "Local":
        options["filters"] = 2
        return kinds[kind](kernel_size=min(2, *size), **options)
    square = {**window(draw, size, stretched=False), "kernel_size": 2}
    square["strides"] = one_of(draw, [1, 1, 2])
    if min(size) < 2:
        square["padding"] = "same"
    if kind == "Depthwise":
        options["depth_multiplier"] = 1 if options.pop("filters") % 2 else 2
    return kinds[kind](**options, **square)


_LARQ = {
    "Depthwise": lq.layers.QuantDepthwiseConv2D,
    "Separable": lq.layers.QuantSeparableConv2D,
    "Transposed": lq.layers.QuantConv2DTranspose,
    "Local": lq.layers.QuantLocallyConnected2D,
    "Dense": lq.layers.QuantDense,
}
_KERAS = {
    "Depthwise": layers.DepthwiseConv2D,
    "Separable": layers.SeparableConv2D,
    "Transposed": layers.Conv2DTranspose,
    "Local": layers.LocallyConnected2D,
    "Dense": layers.Dense,
}


def float_convolution(draw, size, channels):
    if chance(draw, 0.8):
        return other(draw, size, binary=False)
    groups = 2 if channels % 2 == 0 and chance(draw, 0.5) else 1
    actual = {**common(draw), **window(draw, size), "groups": groups}
    actual["filters"] = groups * max(1, actual["filters"] // groups)
    return layers.Conv2D(**actual)


# What computes something else when it is told to train.
TRAINS = (
    lambda: layers.Dropout(0.5),
    lambda: layers.SpatialDropout2D(0.5),
    lambda: layers.GaussianNoise(0.5),
    lambda: own.SignFlipDropout(0.5),
    lambda: layers.BatchNormalization(),
    lambda: keras.Sequential([layers.Dropout(0.5)]),
)

# From maps of any size to maps of any size.
MAPS = (
    lambda draw: layers.MaxPooling2D(2, one_of(draw, [1, 2]), padding="same"),
    lambda draw: layers.MaxPooling2D((3, 2), (1, 2), padding="same"),
    lambda draw: layers.AveragePooling2D((2, 1), padding="same"),
    lambda draw: layers.ZeroPadding2D(
        one_of(draw, [1, ((0, 1), (0, 1)), ((1, 0), (2, 1))])
    ),
    lambda draw: layers.UpSampling2D(one_of(draw, [(2, 1), (1, 2)])),
    lambda draw: layers.Permute((2, 1, 3)),
    lambda draw: layers.Resizing(7, 5, interpolation=one_of(draw, ["nearest", "area"])),
    lambda draw: layers.SpatialDropout2D(0.2),
    lambda draw: layers.GaussianDropout(0.2),
    lambda draw: layers.AlphaDropout(0.2),
    lambda draw: layers.ActivityRegularization(l2=1e-4),
    lambda draw: layers.Softmax(axis=-1),
    lambda draw: layers.ThresholdedReLU(0.37),
    lambda draw: layers.UnitNormalization(),
    lambda draw: layers.LayerNormalization(axis=[1, 2, 3]),
    lambda draw: layers.LayerNormalization(scale=False),
    lambda draw: layers.BatchNormalization(axis=one_of(draw, [1, 2, -1])),
    lambda draw: layers.BatchNormalization(epsilon=1e-6),
    lambda draw: layers.Normalization(axis=-1, mean=0.3, variance=2.0),
    lambda draw: layers.Discretization([-0.5, 0.0, 0.5]),
    lambda draw: layers.Activation(
        one_of(draw, ["selu", "gelu", "softsign", "softmax", "exponential", "linear"])
    ),
    lambda draw: layers.PReLU(),
    lambda draw: Scale(),
    lambda draw: Holder(),
    lambda draw: own.ChannelAffine(),
    lambda draw: lq.quantizers.NoOp(1),
    lambda draw: "ste_heaviside",
)

# Functions of one map, as operators or in a Lambda.
FUNCTIONS = (
    lambda x: 2.0 * x,
    lambda x: x + 0.3,
    lambda x: 1.0 - x,
    lambda x: -x,
    lambda x: x * x,
    lambda x: x / 3.0,
    lambda x: tf.abs(x) - 0.5,
    lambda x: tf.nn.relu(x),
    lambda x: tf.nn.relu6(x),
    lambda x: tf.clip_by_value(x, -1.0, 1.0),
    lambda x: tf.maximum(x, 0.1),
    lambda x: tf.sign(x),
    lambda x: lq.math.sign(x),
    lambda x: tf.where(x >= 0.2, 1.0, -1.0),
    lambda x: tf.cast(x > 0, x.dtype),
    lambda x: tf.stop_gradient(x),
    lambda x: tf.identity(x),
    lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]),
    lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]], constant_values=1.0),
    lambda x: tf.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]]),
    lambda x: tf.pad(x, [[0, 0], [0, 0], [1, 1], [0, 0]], mode="SYMMETRIC"),
    lambda x: x[:, :, :, : max(1, x.shape[-1] // 2)],
    lambda x: x[:, ::2],
    lambda x: tf.concat([x, -x], -1),
    lambda x: tf.reverse(x, [1]),
    lambda x: tf.transpose(x, (0, 2, 1, 3)),
    lambda x: tf.reduce_mean(x, [1, 2], keepdims=True),
    lambda x: tf.reduce_max(x, 3, keepdims=True),
    lambda x: x - tf.reduce_mean(x, [1, 2], keepdims=True),
    lambda x: x * tf.sigmoid(tf.reduce_mean(x, [1, 2], keepdims=True)),
    lambda x: tf.math.l2_normalize(x + 1e-3, -1),
    lambda x: tf.nn.softmax(x),
    lambda x: tf.split(x, 2, 2)[1] if x.shape[2] % 2 == 0 else x,
    lambda x: tf.reshape(x, (-1, 1, x.shape[1] * x.shape[2], x.shape[3])),
    lambda x: tf.nn.max_pool2d(x, 2, 1, "SAME"),
    lambda x: tf.roll(x, 1, 1),
    lambda x: tf.tile(x, (1, 1, 1, 2)),
    lambda x: tf.round(x),
    lambda x: tf.debugging.check_numerics(x, "numbers"),
    lambda x: tf.ensure_shape(x, (None, *x.shape[1:])),
    lambda x: tf.gather(x, [*range(x.shape[-1])][::-1], axis=-1),
)


def _quantized(draw):
    return {
        "input_quantizer": activation_quantizer(draw),
        "kernel_quantizer": kernel_quantizer(draw),
    }


# From sequences to sequences, (batch, time, channels).
SEQUENCES = (
    lambda draw: layers.Conv1D(4, 3, padding=one_of(draw, ["same", "causal"])),
    lambda draw: lq.layers.QuantConv1D(
        int(one_of(draw, [4, 8, 32])),
        one_of(draw, [1, 3]),
        padding=one_of(draw, ["same", "causal", "same"]),
        pad_values=one_of(draw, [0.0, 1.0]),
        dilation_rate=one_of(draw, [1, 1, 2]),
        **_quantized(draw),
    ),
    lambda draw: lq.layers.QuantConv1D(
        8, 3, strides=2, padding="same", **_quantized(draw)
    ),
    lambda draw: lq.layers.QuantDense(8, **_quantized(draw)),
    lambda draw: lq.layers.QuantSeparableConv1D(
        4,
        3,
        padding="same",
        depthwise_quantizer=kernel_quantizer(draw),
        pointwise_quantizer=kernel_quantizer(draw),
        input_quantizer=activation_quantizer(draw),
    ),
    lambda draw: lq.layers.QuantLocallyConnected1D(2, 1, **_quantized(draw)),
    lambda draw: layers.SeparableConv1D(4, 3, padding="same"),
    lambda draw: layers.DepthwiseConv1D(3, padding="same"),
    lambda draw: layers.Conv1DTranspose(4, 2, strides=2, padding="same"),
    lambda draw: layers.LocallyConnected1D(2, 1),
    lambda draw: layers.MaxPooling1D(2, padding="same"),
    lambda draw: layers.AveragePooling1D(2, padding="same"),
    lambda draw: layers.ZeroPadding1D(1),
    lambda draw: layers.UpSampling1D(2),
    lambda draw: layers.TimeDistributed(layers.Dense(4)),
    lambda draw: layers.TimeDistributed(lq.layers.QuantDense(4, **_quantized(draw))),
    lambda draw: layers.BatchNormalization(),
    lambda draw: layers.LayerNormalization(),
    lambda draw: made(draw, SIGNS),
    lambda draw: layers.GRU(4, return_sequences=True),
    lambda draw: layers.LSTM(4, return_sequences=True, unroll=chance(draw, 0.8)),
    lambda draw: layers.SimpleRNN(4, return_sequences=True),
    lambda draw: layers.Bidirectional(layers.GRU(2, return_sequences=True)),
    lambda draw: layers.RNN(layers.LSTMCell(3), return_sequences=True),
    lambda draw: layers.Dropout(0.1),
    lambda draw: layers.Permute((2, 1)),
    lambda draw: layers.ReLU(),
    lambda draw: own.LeakyIntegrateAndFire(),
)

# From masked sequences to sequences, which may be masked.
MASKED = (
    lambda draw: lq.layers.QuantDense(8, **_quantized(draw)),
    lambda draw: lq.layers.QuantDense(8, activation="ste_sign", **_quantized(draw)),
    lambda draw: lq.layers.QuantConv1D(8, 1, **_quantized(draw)),
    lambda draw: layers.Dense(8, activation=one_of(draw, _ACTIVATIONS)),
    lambda draw: layers.BatchNormalization(),
    lambda draw: layers.LayerNormalization(),
    lambda draw: layers.Dropout(0.1),
    lambda draw: layers.ReLU(),
    lambda draw: layers.Identity(),
    lambda draw: own.RPReLU(),
    lambda draw: made(draw, SIGNS),
)
# From masked sequences to vectors.
READERS = (
    lambda draw: layers.GlobalAveragePooling1D(),
    lambda draw: layers.GlobalAveragePooling1D(),
    lambda draw: layers.GlobalMaxPooling1D(),
    lambda draw: layers.SimpleRNN(4),
    lambda draw: layers.GRU(4),
)

# From vectors to vectors.
VECTORS = (
    lambda draw: layers.Dense(8, activation=one_of(draw, _ACTIVATIONS)),
    lambda draw: lq.layers.QuantDense(
        int(one_of(draw, _FILTERS)), use_bias=chance(draw, 0.4), **_quantized(draw)
    ),
    lambda draw: lq.layers.QuantDense(
        16, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False
    ),
    lambda draw: layers.BatchNormalization(scale=chance(draw, 0.7)),
    lambda draw: layers.LayerNormalization(),
    lambda draw: layers.Dropout(0.1),
    lambda draw: layers.ReLU(),
    lambda draw: layers.PReLU(),
    lambda draw: made(draw, SIGNS),
    lambda draw: own.SymmetricHead(6),
    lambda draw: own.ThresholdedLinearUnit(),
)
