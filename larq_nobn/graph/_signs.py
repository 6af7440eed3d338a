"""Finds signs among quantizers, tensors and kernels, and writes them as `RSign`.

A function, a Lambda or a class that this package does not know may be written in any
way. So it is tried on numbers of all sizes: 0 and -0, each power of ten from 1e-30 to
1e30 and some between, and infinity, on both sides of 0, each among others. Left out are
NaN, which has no sign, and numbers below 1e-30, which processors may flush to 0.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._keras import alias, keras
from .._larq import lq, unmeasured
from ..quantizers import ProgressiveSign, ReSTE, RSign, SigmoidSign
from ._errors import ModelError, raised_by
from ._graph import Call, inputs_of, maker_of
from ._operation import (
    KNOWN_PACKAGES,
    Operation,
    latent,
    needs_float32,
    rebuild,
    take_state,
)
from ._traits import FUNCTIONS, function_traits, inherited

_layers = keras.layers
_FEW = 3
_NUMBERS = np.array([-100.0, -2.5, -0.5, 0.5, 2.5, 100.0], np.float32)
# The most values that a quantizer of few bits gives for the numbers below.
_MOST = 3
_SIZES = np.geomspace(1e-30, 1e30, 241, dtype=np.float32)
_POSITIVE = np.array([0.0, -0.0, *_SIZES, np.inf], np.float32)
_NEGATIVE = -np.array([*_SIZES, np.inf], np.float32)
# (batch, ..., channels) of one channel; weights per channel broadcast it to several.
_SHAPES = tuple((-1, *[1] * rank) for rank in (3, 1, 2, 4))


def is_binary(quantizer: Any) -> bool:
    """Whether a quantizer declares one bit and is more than a marker."""
    return bits_of(quantizer) == 1 and not isinstance(quantizer, lq.quantizers.NoOp)


def bits_of(quantizer: Any) -> int:
    """Returns the precision of a quantizer or marker; 32 if it has none.

    A user's quantizer that declares none is tried on numbers.
    """
    own = getattr(quantizer, "precision", None)
    if own is None and is_users(quantizer):
        return bits_of_users(quantizer)
    return own or getattr(function_traits(quantizer).sign, "precision", None) or 32


def is_users(quantizer: Any) -> bool:
    """Whether this is a function, a Lambda or a class that this package lacks."""
    if quantizer is None or not callable(quantizer):
        return False
    if isinstance(quantizer, Hashable) and quantizer in FUNCTIONS:
        return False
    if type(quantizer) is keras.layers.Lambda:
        return True
    home = quantizer if not isinstance(quantizer, keras.layers.Layer) else None
    module = getattr(home, "__module__", None) or type(quantizer).__module__
    return module.split(".")[0] not in KNOWN_PACKAGES


def bits_of_users(quantizer: Any) -> int:
    """Returns the bits of a user's quantizer, tried on numbers.

    A sign has 1 bit; it may be -1 at 0, or give 0 and 1 instead of -1 and +1. Anything
    else that gives few numbers, or cannot be called on numbers alone, has 2 bits. The
    rest has 32.
    """
    for shape in _SHAPES:
        few = _tried(quantizer, _NUMBERS.reshape(shape))
        if few is not None and few.shape[:1] == _NUMBERS.shape:
            break
    else:
        return 2
    values = set(np.unique(few))
    same_places = few.shape[:-1] == _NUMBERS.reshape(shape).shape[:-1]
    if len(values) > _MOST or not same_places:
        return 32
    low, zero = (0, 0) if values == {0.0, 1.0} else (-1, 1)
    if np.all(_tried(quantizer, np.zeros_like(_NUMBERS).reshape(shape)) == -1):
        zero = -1
    channels = few.shape[-1] if few.shape[-1] > 1 else 5
    # Each number is among others on the same side of 0, so that no mean is 0.
    for side in (_POSITIVE, _NEGATIVE):
        numbers = np.resize(side, (len(side), *[2] * (len(shape) - 2), channels))
        made = _tried(quantizer, numbers)
        expected = np.where(numbers > 0, 1, np.where(numbers == 0, zero, low))
        if made is None or not np.array_equal(made, expected):
            return 2
    return 1


def _tried(quantizer: Any, numbers: np.ndarray) -> np.ndarray | None:
    """Returns what a quantizer gives for numbers; None if it raises."""
    call = quantizer
    if isinstance(quantizer, lq.quantizers.Quantizer):
        call = quantizer.call  # without its metrics
    try:
        with raised_by(quantizer, "cannot be called on numbers"):
            made = call(tf.constant(numbers))
    except ModelError:
        return None
    return np.asarray(tf.cast(made, tf.float32)) if tf.is_tensor(made) else None


def kernel_value(variable: Any) -> np.ndarray:
    """Returns the quantized value of a kernel, as in the forward pass."""
    quantizer = getattr(variable, "quantizer", None)
    return quantized(quantizer, latent(variable).numpy())


def quantized(quantizer: Any, weights: np.ndarray) -> np.ndarray:
    """Returns latent weights quantized by a quantizer; unchanged if it is None."""
    if quantizer is None:
        return weights
    called = raised_by(quantizer, "cannot be called on a kernel")
    if not isinstance(quantizer, keras.layers.Layer):
        with called:
            return np.asarray(quantizer(weights))
    same = alias(quantizer)
    with called, unmeasured(same):
        if weights.dtype == np.float32 and needs_float32(quantizer):
            same = rebuild(quantizer, float32=True)
            same(weights)
            take_state(same, quantizer)
        return np.asarray(same(weights))


def split_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Splits a ±c kernel into exact ±1 and c >= 0, (C,); None for other kernels.

    The last axis is that of the output channels.
    """
    for part in (kernel[..., :1], kernel):  # one channel suffices to rule out most
        magnitude = np.abs(part)
        scale = magnitude.max(axis=tuple(range(kernel.ndim - 1)))
        # Only rounding is tolerated; LCE would silently remove differences of 0.5 %.
        if not np.all(scale - magnitude <= 1e-5 * scale):
            return None
    signs = np.where(kernel < 0, np.float32(-1), np.float32(1))
    return signs, scale.astype(np.float32)


def has_two_values(kernel: np.ndarray) -> bool:
    """Whether each output channel has at most two values, up to rounding.

    The last axis is that of the output channels. Two weights always have two values, so
    channels of few weights must be those of a sign.
    """
    weights = kernel.reshape(-1, kernel.shape[-1])
    if len(weights) <= _FEW:
        return split_kernel(kernel) is not None and bool(np.any(kernel))
    low, high = weights.min(axis=0), weights.max(axis=0)
    sizes = np.abs(weights).max(axis=0)
    near = np.maximum(1e-5 * sizes, 1e-6 * sizes.max())
    two = (weights - low <= near) | (high - weights <= near)
    return bool(np.all(two) and np.any(high - low > near))


def sign_of_layer(layer: keras.layers.Layer) -> Any:
    """Returns the quantizer of a layer that is nothing but a binary quantizer."""
    if isinstance(layer, lq.quantizers.Quantizer) and is_binary(layer):
        return layer
    if isinstance(layer, _layers.Activation) and is_binary(layer.activation):
        return layer.activation
    users = not layer.weights and is_users(layer)
    return layer if users and bits_of_users(layer) == 1 else None


def sign_of_call(call: Call) -> Any:
    """Returns the sign that a call is or starts with; None for other calls."""
    inner = getattr(call.layer, "input_quantizer", None)
    return inner if is_binary(inner) else sign_of_layer(call.layer)


def drops_mask(call: Call) -> bool:
    """Whether a mask ends at a call of a sign, as at Larq's quantizers.

    An `RSign` in its place would pass the mask on.
    """
    layer, mask = call.layer, getattr(call.first_input, "_keras_mask", None)
    keeps = layer.supports_masking or sign_of_layer(layer) is None
    return mask is not None and not keeps


def sign_of_activation(layer: keras.layers.Layer) -> Any:
    """Returns the sign that is the activation of a layer.

    None for a layer that is nothing but a sign.
    """
    known = inherited(type(layer)).activated
    return layer.activation if known and is_binary(layer.activation) else None


def sign_of_tensor(tensor: Any) -> Any:
    """Returns the quantizer that makes a tensor, if it is a sign; else None.

    The tensor is the output of a layer that is a sign or ends in one, perhaps after
    layers that do nothing at inference.
    """
    while True:
        node = maker_of(tensor)
        layer = node.layer
        if node.is_input:
            return None
        linear = getattr(layer, "activation", None) is keras.activations.linear
        nothing = linear and type(layer) is _layers.Activation
        idle = inherited(type(layer)).idle or type(layer) is _layers.Identity
        if not nothing and not idle:
            return sign_of_layer(layer) or sign_of_activation(layer)
        tensor = node.keras_inputs[0]


def has_sign_input(call: Call) -> bool:
    """Whether the kernel of this call multiplies the output of a sign.

    The sign is the layer's own, or makes its input.
    """
    own = getattr(call.layer, "input_quantizer", None)
    if own is not None and not isinstance(own, lq.quantizers.NoOp):
        return is_binary(own)
    inputs = inputs_of(call.node)  # of the given model, not of an edited graph
    return len(inputs) == 1 and sign_of_tensor(inputs[0]) is not None


def is_binary_convolution(call: Call) -> bool:
    """Whether LCE should find a binary convolution in this call.

    Its kernel is ±c, with one c per output channel; a binary quantizer may also give 0
    and 1.
    """
    layer = call.layer
    # In Python, a Conv2DTranspose is a Conv2D; for LCE it is not.
    plain = isinstance(layer, lq.layers.QuantConv2D) or type(layer) is _layers.Conv2D
    if not plain or not has_sign_input(call):
        return False
    quantizer = call.operation.quantizer("kernel")
    if is_binary(quantizer):
        return True
    kernel = call.operation.arrays["kernel"]
    return split_kernel(quantized(quantizer, kernel)) is not None


class RSignArguments(NamedTuple):
    """The arguments of an `RSign`, and its shift, (C,); None for no shift."""

    scale: float
    estimator: Any
    shift: np.ndarray | None = None
    power: float = 1.0

    def operation(self, name: str, **more: Any) -> Operation:
        """Returns the `RSign`, with more arguments."""
        values = {} if self.shift is None else {"shift": self.shift}
        arguments = {**self._asdict(), "shift": self.shift is not None, **more}
        return Operation(name, RSign, None, arguments, values)


def as_rsign(quantizer: Any) -> RSignArguments | None:
    """Returns the arguments of an `RSign` equal to a sign; None if there is none.

    `SteSign` passes gradients where the scaled input is in [-1, 1]. A `clip_value` of c
    becomes the scale 1/c, which also divides the gradients by c.
    """
    kind = type(quantizer)
    if kind is RSign:
        shift = quantizer.whole_shift()
        power = 1.0 if quantizer.power is None else float(quantizer.power)
        return RSignArguments(quantizer.scale, quantizer.estimator, shift, power)
    if kind is ProgressiveSign:
        return RSignArguments(quantizer.scale, "ste_sign", quantizer.whole_shift())
    if kind is ReSTE:
        return RSignArguments(1.0, "reste", power=float(quantizer.power))
    if kind is SigmoidSign:
        return RSignArguments(quantizer.slope / 3, "sigmoid_sign")
    if kind is lq.quantizers.ApproxSign:
        return RSignArguments(1.0, "approx_sign")
    if kind is lq.quantizers.SteSign and quantizer.clip_value:
        return RSignArguments(1 / quantizer.clip_value, "ste_sign")
    return None
