"""What becomes of a positive factor at each kind of layer of a prepared model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call, Graph, sign_of
from ...layers import ThresholdedLinearUnit
from . import _factor_weights as fit
from ._inference import BinaryConvolution, PlainAffine, PlainRPReLU
from ._kinds import REAL_KERNELS
from ._quantizers import SIGNS

_layers = keras.layers

# Far inside float32, so that no shift divided by a factor leaves it.
LARGEST = 2.0**40
# L(f x) = f L(x) for every positive f, and jointly so for several inputs.
_HOMOGENEOUS = (
    _layers.AveragePooling2D,
    _layers.MaxPooling2D,
    _layers.GlobalAveragePooling2D,
    _layers.GlobalMaxPooling2D,
    _layers.UpSampling2D,
    _layers.ZeroPadding2D,
    _layers.Cropping2D,
    _layers.Flatten,
    _layers.Reshape,
    _layers.Permute,
    _layers.Concatenate,
    _layers.Add,
    _layers.Subtract,
    _layers.Average,
    _layers.Maximum,
    _layers.Minimum,
    _layers.LeakyReLU,
    _layers.PReLU,
)
_SUMS = ("__operators__.add", "math.add", "math.subtract")
_RECTIFIERS = (keras.activations.linear, keras.activations.relu)
# Homogeneous once their shifts are divided by the factor.
_SHIFTED: dict[type, Callable[..., None]] = {
    PlainRPReLU: fit.fit_rprelu,
    ThresholdedLinearUnit: fit.fit_threshold,
}


class Rule(NamedTuple):
    """Which f and g allow a layer to make y / g of x / f, where it makes y of x.

    Attributes:
        takes: Whether f may be any positive number; if not, it is 1.
        gives: Whether g may be, whatever f is; if not, it is 1.
        passes: Whether g is f, that of all inputs.
        adapt: Changes the layer's weights for f and g; None if nothing needs to.
    """

    takes: bool = False
    gives: bool = False
    passes: bool = False
    adapt: Callable[[float, float], None] | None = None


def rule_of(call: Call, graph: Graph) -> Rule:
    """The rule for a layer; for one that is not known here, f and g are 1."""
    layer, kind = call.layer, type(call.layer)
    if is_homogeneous(call):
        return Rule(takes=True, passes=True)
    if kind in _SHIFTED:
        return Rule(takes=True, passes=True, adapt=partial(_SHIFTED[kind], layer))
    if kind is PlainAffine:
        return Rule(takes=True, gives=True, adapt=partial(fit.fit_affine, layer))
    sign = sign_of(layer)
    if type(sign) in SIGNS:
        return Rule(takes=True, adapt=partial(fit.fit_sign, sign))
    if kind is BinaryConvolution:
        return _binary_convolution(call, graph)
    return _real_kernel(layer) if kind in REAL_KERNELS else Rule()


def positive_scale(call: Call) -> float | None:
    """The positive number by which a layer multiplies, if it does nothing else."""
    layer, tensors = call.layer, [*call.node.keras_inputs, call.outputs]
    if type(layer) is PlainAffine and layer.offset is None:
        scales = [1.0 if layer.gain is None else layer.gain]
    elif symbol_of(layer) == "math.multiply":
        scales = constants_of(call)
    else:
        return None
    if len(scales) != 1 or any(tensor.dtype != tf.float32 for tensor in tensors):
        return None
    scale = np.asarray(scales[0], np.float64)
    inside = scale.ndim == 0 and 0 < scale <= LARGEST
    return float(scale) if inside else None


def symbol_of(layer: keras.layers.Layer) -> str:
    """The TensorFlow function of a layer that stands for one, as in `x + y`."""
    return getattr(layer, "symbol", "")


def constants_of(call: Call) -> list[Any]:
    """What such a function is given besides tensors of the model, and its name."""
    arguments = {**dict(enumerate(call.node.call_args)), **call.node.call_kwargs}
    arguments.pop("name", None)
    tensors = [id(tensor) for tensor in call.node.keras_inputs]
    return [x for x in arguments.values() if id(x) not in tensors]


def is_homogeneous(call: Call) -> bool:
    layer = call.layer
    if type(layer) is _layers.ReLU:
        return layer.max_value is None and not layer.threshold
    if type(layer) is _layers.Activation:
        return layer.activation in _RECTIFIERS
    if symbol_of(layer) in _SUMS:
        return not constants_of(call)
    return type(layer) in _HOMOGENEOUS


def _real_kernel(layer: keras.layers.Layer) -> Rule:
    quantizer = getattr(layer, "input_quantizer", None)
    pads = getattr(layer, "padding", "valid") != "valid"
    zero_padded = not pads or not np.any(getattr(layer, "pad_values", 0.0))
    takes = zero_padded if quantizer is None else type(quantizer) in SIGNS
    gives = layer.activation in _RECTIFIERS
    return Rule(takes, gives, adapt=partial(fit.fit_kernel, layer))


def _binary_convolution(call: Call, graph: Graph) -> Rule:
    layer = call.layer
    gives = layer.last in _RECTIFIERS
    if layer.scale is None and layer.offset is None:
        # LCE fuses a ReLU with integers only; a scale would make it an operation.
        gives &= not any(_is_relu(c.layer) for c in graph.consumers(call.outputs))
    adapt = partial(fit.fit_binary_convolution, layer)
    return Rule(type(layer.input_quantizer) in SIGNS, gives, adapt=adapt)


def _is_relu(layer: keras.layers.Layer) -> bool:
    if type(layer) is _layers.Activation:
        return layer.activation is keras.activations.relu
    return type(layer) is _layers.ReLU
