"""The one table of the traits of layers, functions and signs.

Every pass over a graph asks here, so a new kind is a new row here. A class counts only
itself, since its subclasses may compute something else; `inherited` also covers
subclasses that differ only in training.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ..layers import (
    ActivationStandardization,
    BatchKalmanNormalization,
    ChannelAffine,
    EvoNormS0,
    FilterResponseNormalization,
    IndependentComponent,
    ProxyNormalization,
    SignFlipDropout,
    SkipInit,
)
from ..layers._channel_padding import ChannelPadding
from ..layers._grouped import GroupedConv2D
from ._graph import Call

_layers = keras.layers
_quant = lq.layers
_functions = keras.activations


class Kind(NamedTuple):
    """The traits of a kind of layers at inference.

    Attributes:
        passes: For which scales k per channel, and any bias b, L(k x + b) = k L(x) + b'
            for its function L: "all", "positive", or "" for none.
        kernel: The attribute of the kernel that makes its output, if it is linear up to
            its activation.
        transposed: Whether the kernel's last two axes are channels out and in.
        quantized: The class of the same arguments whose kernel can have a quantizer.
        activated: Whether it ends in its activation, as layers with kernels do.
        idle: Whether it returns its input at inference.
        pool: "max" or "mean" for a pool over windows.
        affine: Whether it is a scale and a bias per channel.
        norm: "batch" or "example" for a norm that takes statistics of it.
        constant: Whether a constant channel stays constant, perhaps multiplied, moved
            or reshaped.
    """

    passes: str = ""
    kernel: str = ""
    transposed: bool = False
    quantized: type | None = None
    activated: bool = False
    idle: bool = False
    pool: str = ""
    affine: bool = False
    norm: str = ""
    constant: bool = False


_Row = tuple[Kind, tuple[type, ...]]


def _with_quantized(kernel: str, *names: str) -> Iterator[_Row]:
    """Yields a row for each layer of Keras and its counterpart in Larq."""
    for name in names:
        quantized = getattr(_quant, f"Quant{name}")
        kind = Kind(kernel=kernel, quantized=quantized, activated=True)
        yield kind, (getattr(_layers, name), quantized)


def _keras(names: str) -> tuple[type, ...]:
    """Returns layers of Keras by name; *D stands for 1D, 2D and 3D."""
    ranked = (name.replace("*D", f"{n}D") for name in names.split() for n in (1, 2, 3))
    return tuple(dict.fromkeys(getattr(_layers, name) for name in ranked))


_UNKNOWN = Kind()
_TABLE: tuple[_Row, ...] = (
    # Layers without weights. Pools leave padding out of their average or maximum.
    (Kind("all", pool="mean"), _keras("AveragePooling*D")),
    (Kind("positive", pool="max"), _keras("MaxPooling*D")),
    (Kind("positive"), _keras("GlobalMaxPooling*D")),
    (Kind("all"), _keras("GlobalAveragePooling*D UpSampling*D Resizing Cropping*D")),
    (
        Kind(constant=True),
        (ChannelPadding, *_keras("Add Subtract Average Concatenate Flatten Reshape")),
    ),
    # Layers that do nothing at inference.
    (
        Kind(idle=True),
        (
            *_keras(
                "Dropout AlphaDropout GaussianDropout GaussianNoise SpatialDropout*D "
                "ActivityRegularization RandomFlip RandomTranslation RandomRotation "
                "RandomZoom RandomContrast RandomBrightness"
            ),
            ActivationStandardization,
            SignFlipDropout,
        ),
    ),
    # Scales and biases, and norms.
    (Kind(affine=True), (ChannelAffine,)),
    (Kind(affine=True, constant=True), (SkipInit, _layers.Rescaling)),
    (
        Kind(affine=True, norm="batch"),
        (_layers.BatchNormalization, IndependentComponent, BatchKalmanNormalization),
    ),
    (Kind(norm="batch"), (_layers.experimental.SyncBatchNormalization,)),
    (
        Kind(norm="example"),
        (FilterResponseNormalization, ProxyNormalization, EvoNormS0),
    ),
    (Kind(norm="example"), _keras("GroupNormalization LayerNormalization")),
    # Kernels.
    *_with_quantized("kernel", "Dense", "Conv1D", "Conv2D", "Conv3D"),
    *_with_quantized("pointwise_kernel", "SeparableConv1D", "SeparableConv2D"),
    (Kind(kernel="kernel", quantized=GroupedConv2D, activated=True), (GroupedConv2D,)),
    (
        Kind(kernel="depthwise_kernel", activated=True),
        (*_keras("DepthwiseConv1D DepthwiseConv2D"), _quant.QuantDepthwiseConv2D),
    ),
    (
        Kind(kernel="kernel", transposed=True, activated=True),
        (
            *_keras("Conv*DTranspose"),
            _quant.QuantConv2DTranspose,
            _quant.QuantConv3DTranspose,
        ),
    ),
    (Kind(activated=True), _keras("LocallyConnected1D LocallyConnected2D EinsumDense")),
)
KINDS: dict[type, Kind] = {kind: row for row, kinds in _TABLE for kind in kinds}


class Function(NamedTuple):
    """The traits of an activation.

    Attributes:
        bounds: The bounds to which it clips, if it does nothing else.
        gate: Whether it returns a gate or a probability, which has no scale.
        sign: The class of a quantizer that computes it, if it is a sign.
    """

    bounds: tuple[float, float] | None = None
    gate: bool = False
    sign: type | None = None


RECTIFIED = (0.0, float("inf"))
# TensorFlow Lite merges clips to these into the convolution, sum or pool before them.
FUSED = (RECTIFIED, (0.0, 6.0), (-1.0, 1.0))
_FUNCTION_TABLE: tuple[tuple[Function, tuple[Any, ...]], ...] = (
    # Unknown functions are tried on a few numbers, where these would look like signs.
    (Function(), (tf.abs, tf.square, tf.nn.log_softmax)),
    (
        Function(gate=True),
        (
            *(tf.nn.sigmoid, tf.nn.softmax, tf.nn.softsign, tf.nn.tanh),
            *(_functions.hard_sigmoid, _functions.sigmoid, _functions.softmax),
            *(_functions.softsign, _functions.tanh),
        ),
    ),
    (Function(bounds=RECTIFIED), (tf.nn.relu, _functions.relu)),
    (Function(bounds=(0.0, 6.0)), (tf.nn.relu6,)),
    (Function(bounds=(-1.0, 1.0)), (lq.activations.hard_tanh,)),
    # Signs that do not declare a precision.
    (Function(sign=lq.quantizers.SteSign), (lq.math.sign, lq.quantizers.ste_sign)),
    (Function(sign=lq.quantizers.ApproxSign), (lq.quantizers.approx_sign,)),
    (Function(sign=lq.quantizers.SwishSign), (lq.quantizers.swish_sign,)),
    (
        Function(sign=lq.quantizers.SteHeaviside),
        (lq.math.heaviside, lq.quantizers.ste_heaviside),
    ),
)
FUNCTIONS = {function: row for row, made in _FUNCTION_TABLE for function in made}
_FUNCTIONS_BY_NAME = {function.__name__: row for function, row in FUNCTIONS.items()}

# Functions of TensorFlow, by the names that Keras gives the layers that it makes of
# them: x + y and x - y.
SUMS = ("__operators__.add", "math.add", "math.subtract")


def traits(kind: Any) -> Kind:
    """Returns the traits of a class of layers; no traits if it is not listed."""
    return KINDS.get(kind, _UNKNOWN)


def inherited(kind: Any) -> Kind:
    """Returns the traits of a class, or of the one whose `call` it inherits."""
    own, mro = getattr(kind, "call", None), getattr(kind, "__mro__", ())
    known: Any = (cls for cls in mro if cls in KINDS)  # these have a `call`
    return next((KINDS[cls] for cls in known if cls.call is own), _UNKNOWN)


def function_traits(function: Any) -> Function:
    """Returns the traits of an activation; no traits for anything else."""
    known = function if isinstance(function, Hashable) else None
    return FUNCTIONS.get(known, Function())


def activation_traits(layer: keras.layers.Layer) -> Function:
    """Returns the traits of the function that a layer is, or applies last."""
    if isinstance(layer, _layers.Softmax):
        return FUNCTIONS[tf.nn.softmax]
    if type(layer) is _layers.ReLU:
        largest = float("inf") if layer.max_value is None else float(layer.max_value)
        clips = not layer.negative_slope and not layer.threshold
        return Function(bounds=(0.0, largest)) if clips else Function()
    if symbol := symbol_of(layer):
        return _FUNCTIONS_BY_NAME.get(symbol.split(".")[-1], Function())
    if type(layer) is _layers.Activation or inherited(type(layer)).activated:
        return function_traits(getattr(layer, "activation", None))
    return Function()


def passes(call: Call) -> str:
    """Returns `Kind.passes` of a call; "" for a layer that is not listed."""
    layer = call.layer
    if type(layer) is _layers.Activation:
        return "all" if layer.activation is _functions.linear else ""
    return traits(type(layer)).passes if is_channels_last(layer) else ""


def is_channels_last(layer: keras.layers.Layer) -> bool:
    """Whether the last axis of a layer's feature maps is that of the channels."""
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def adds_up(call: Call) -> bool:
    adds = type(call.layer) is _layers.Add or symbol_of(call.layer) in SUMS[:2]
    return adds and len(call.reads) > 1


def symbol_of(layer: keras.layers.Layer) -> str:
    """Returns the TensorFlow function that a layer stands for, as of `x + y`."""
    return getattr(layer, "symbol", "")
