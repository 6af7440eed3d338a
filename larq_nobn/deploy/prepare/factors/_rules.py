"""What becomes of a positive factor at each kind of layer of a prepared model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ...._keras import keras
from ....graph import Call, Graph, constants_of, passage, sign_of, symbol_of
from ....layers import ThresholdedLinearUnit
from .._inference import BinaryConvolution, PlainAffine, PlainRPReLU
from .._kinds import REAL_KERNELS
from .._quantizers import SIGNS
from . import _weights as fit

_layers = keras.layers

# Far inside float32, so that no shift divided by a factor leaves it.
LARGEST = 2.0**40
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
    if passage(call).factor:
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
