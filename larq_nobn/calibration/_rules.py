"""What each kind of layer gets set, given what reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import Call, Graph, has_sign_input, is_channels_last
from ..layers import ChannelAffine, RPReLU
from ..layers._kernel_layers import has_kernel
from ..quantizers import BinaryRegularized, RSign, ScaledStandardization, ScaledStdSign
from ._offsets import is_linear, passed_on
from ._statistics import Parts, mean_of, moments_of
from ._walk import Value, Values, outputs

# Not the global ones, which leave one value of each example.
_POOLS = (
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)
# Below this fraction of its mean, or of the standard deviation it should get, what
# varies in a channel is rounding, or an accident of few examples.
_OF_MEAN, _OF_TARGET = 1e-2, 1e-3


class Rules:
    """Visits calls in order and sets the weights of their layers, each layer once."""

    def __init__(self) -> None:
        self._before: dict[Any, Any] = {}

    @property
    def have_applied(self) -> bool:
        """Whether any weight was set."""
        return bool(self._before)

    def undo(self) -> None:
        """Gives all weights their old values."""
        for reference, value in self._before.items():
            reference.deref().assign(value)

    def visit(self, graph: Graph, call: Call, values: Values) -> list[Value]:
        """Sets the weights of a call's layer, then makes the call."""
        layer, first = call.layer, next(iter(values.values()))
        sign = _sign_of(layer)
        if sign is not None and sign.shift is not None and self._is_new(sign.shift):
            mean = _finite(call, mean_of(first.parts))
            self._assign(sign.shift, -sign.scale * mean)
        if isinstance(layer, RPReLU) and self._is_new(layer.shift_in):
            offset = tf.zeros(layer.shift_in.shape)
            if first.offset is not None:
                offset = first.offset
            self._assign(layer.shift_in, -mean_of([offset]))
        if isinstance(layer, ChannelAffine) and self._is_new(layer.beta):
            mean = _finite(call, mean_of(first.parts))
            self._assign(layer.beta, -layer.gamma.numpy() * mean)
        if _kernel_of(layer) is not None:
            self._scale(graph, call, values)
        return self._made(call, values)

    def _made(self, call: Call, values: Values) -> list[Value]:
        found = outputs(call, values)
        if not is_linear(call.layer):
            offset = passed_on(call, values)
        elif _kernel_of(call.layer) is not None and call.layer.use_bias:
            offset = None
        else:
            mean = tf.constant(_finite(call, mean_of(found[0])), tf.float32)
            offset = tf.broadcast_to(mean, (1, *found[0][0].shape[1:]))
        return [Value(parts, offset) for parts in found]

    def _scale(self, graph: Graph, call: Call, values: Values) -> None:
        """Sets gain and bias of a layer with one of the scaled kernels."""
        layer, kernel = call.layer, _kernel_of(call.layer)
        gain = None if isinstance(kernel.gain, bool) else kernel.gain
        bias = layer.bias if layer.use_bias else None
        if not any(self._is_new(weight) for weight in (gain, bias)):
            return
        with _linear(layer):
            parts = outputs(call, values)[0]
        if bias is not None:
            parts = _after_pools(graph, call, parts)
        mean, deviation = moments_of(parts)
        _finite(call, mean + deviation)
        factor = np.ones_like(mean)
        if gain is not None:
            target = kernel.scale if _reads_signs(call) else 1.0
            varies = deviation > np.maximum(_OF_MEAN * abs(mean), _OF_TARGET * target)
            np.divide(target, deviation, out=factor, where=varies)
            self._assign(gain, gain.numpy() * factor)
        if bias is not None:
            self._assign(bias, factor * (bias.numpy() - mean))

    def _is_new(self, weight: Any) -> bool:
        return weight is not None and weight.ref() not in self._before

    def _assign(self, weight: Any, value: np.ndarray) -> None:
        self._before[weight.ref()] = weight.numpy()
        weight.assign(value.astype(np.float32))


def _sign_of(layer: keras.layers.Layer) -> RSign | None:
    """The RSign that a layer is, or starts with."""
    if isinstance(layer, keras.layers.Activation):
        layer = layer.activation
    found = getattr(layer, "input_quantizer", layer)
    return found if isinstance(found, RSign) else None


def _kernel_of(layer: keras.layers.Layer) -> Any:
    """The scaled kernel quantizer of a layer whose units are the kernel's last axis."""
    if not has_kernel(layer) or not is_channels_last(layer):
        return None
    found = getattr(layer, "kernel_quantizer", None)
    if isinstance(found, BinaryRegularized):
        found = found.quantizer
    return found if isinstance(found, (ScaledStdSign, ScaledStandardization)) else None


def _reads_signs(call: Call) -> bool:
    # Larq's NoOp says by its precision that bits arrive.
    quantizer = getattr(call.layer, "input_quantizer", None)
    return getattr(quantizer, "precision", None) == 1 or has_sign_input(call)


def _after_pools(graph: Graph, call: Call, parts: Parts) -> Parts:
    """What max pools make of an output that nothing else reads."""
    tensor = call.first_output
    while (reader := graph.sole_consumer(tensor)) and isinstance(reader.layer, _POOLS):
        parts = [reader.layer(part) for part in parts]
        tensor = reader.first_output
    return parts


@contextmanager
def _linear(layer: keras.layers.Layer) -> Iterator[None]:
    """Leaves the activation of a layer out."""
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation


def _finite(call: Call, statistics: np.ndarray) -> np.ndarray:
    if not np.isfinite(statistics).all():
        raise ValueError(
            f"Layer {call.described} meets or makes values that are not finite, so "
            "that they have no mean. Look for NaN or infinity in data and weights."
        )
    return statistics
