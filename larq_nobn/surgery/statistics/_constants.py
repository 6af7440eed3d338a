"""What a layer of dynamic statistics becomes once these are constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._math import at_least_float32, beside
from ...graph import _graph, _kinds, _operation
from ...layers import (
    ChannelAffine,
    EvoNormS0,
    ProxyNormalization,
)
from ...layers._groups import group_moments
from ...layers._normalized_activation import FLOOR
from ...population import PooledMoments, moments_of

_layers = keras.layers
_Function = Callable[[tf.Tensor], tf.Tensor]
DYNAMIC = tuple(kind for kind, known in _kinds.KINDS.items() if known.norm == "example")


@dataclass(frozen=True)
class Constant:
    """Operations in a row, one of them a gain and a bias per channel to be calibrated.

    Arguments:
        affine: That one.
        source: What it meets, as a function of the input of the row.
        target: What it should return, as such a function.
        before, after: The others of the row.
    """

    affine: _operation.Operation
    target: _Function
    source: _Function = tf.identity
    before: tuple[_operation.Operation, ...] = ()
    after: tuple[_operation.Operation, ...] = ()

    @property
    def row(self) -> tuple[_operation.Operation, ...]:
        return (*self.before, self.affine, *self.after)

    def moments(self, inputs: tf.Tensor, **_: Any) -> PooledMoments:
        """Returns the moments of the source and the target."""
        return moments_of(self.source(inputs), self.target(inputs))

    def calibrate(self, layer: ChannelAffine, moments: PooledMoments) -> float:
        """Sets the gain and the bias of a layer by such moments over all data.

        Returns:
            The root mean square of what they leave, in standard deviations of the
            target.
        """
        spread, both, power = moments.comoment[[0, 0, 1], [0, 1, 1]]
        # Rounding alone makes a channel that is the same everywhere vary a little.
        varies = spread > 1e-10 * moments.count * np.square(moments.mean[0])
        ratio = np.divide(power, spread, out=np.zeros_like(power), where=varies)
        gain = np.copysign(np.sqrt(ratio), both)
        layer.gamma.assign(gain)
        layer.beta.assign(moments.mean[1] - gain * moments.mean[0])
        left = power - 2 * gain * both + np.square(gain) * spread
        return float(np.sqrt(max(left.sum(), 0) / power.sum())) if power.any() else 0.0


def constant_of(call: _graph.Call) -> Constant | None:
    """Returns the row that replaces a layer; None if there is no such row."""
    layer, rank = call.layer, call.inputs.shape.rank
    if isinstance(layer, ProxyNormalization):
        return _proxy(layer)
    if isinstance(layer, EvoNormS0):
        return _evonorm(layer)
    if isinstance(layer, _layers.LayerNormalization) and list(layer.axis) != [rank - 1]:
        return None
    if isinstance(layer, _layers.GroupNormalization) and layer.axis % rank != rank - 1:
        return None
    return Constant(_affine(layer, layer.name), layer)


def _affine(
    layer: keras.layers.Layer, name: str, gain: Any = None, bias: Any = None
) -> _operation.Operation:
    arguments = {"dtype": layer.dtype_policy.name, "trainable": layer.trainable}
    values = {} if gain is None else {"gamma": gain, "beta": bias}
    return _operation.Operation(name, ChannelAffine, None, arguments, values)


def _activation(
    layer: keras.layers.Layer, name: str, activation: Any
) -> _operation.Operation:
    arguments = {"activation": activation, "dtype": layer.dtype_policy.name}
    return _operation.Operation(name, _layers.Activation, None, arguments)


def _proxy(layer: ProxyNormalization) -> Constant:
    """Calibrates the group norm alone; the proxy step is constant already."""
    name = layer.name
    if layer.activation is keras.activations.linear:
        return Constant(_affine(layer, name), layer)

    def normalized(x: tf.Tensor) -> tf.Tensor:
        mean, variance = group_moments(x, layer.groups)
        rate = tf.math.rsqrt(variance + FLOOR)
        gamma, beta = beside(x, layer.gamma), beside(x, layer.beta)
        return (tf.cast(x, mean.dtype) - mean) * rate * gamma + beta

    weights = map(tf.convert_to_tensor, (layer.gamma, layer.beta))
    center, variance = layer._proxy_moments(*map(at_least_float32, weights))
    rate = tf.math.rsqrt(variance + layer.epsilon).numpy()
    return Constant(
        _affine(layer, f"{name}_affine"),
        normalized,
        after=(
            _activation(layer, f"{name}_activation", layer.activation),
            _affine(layer, name, rate, -rate * center.numpy()),
        ),
    )


def _evonorm(layer: EvoNormS0) -> Constant:
    """x·sigmoid(v·x) as swish(v·x), whose factor v is part of the gain."""
    v, name = layer.v.numpy(), layer.name
    v = np.where(np.abs(v) < 1e-6, 1e-6, v)  # of a swish(0) nothing would be left

    def swish(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.silu(v * tf.cast(x, v.dtype))

    return Constant(
        _affine(layer, name),
        layer,
        source=swish,
        before=(
            _affine(layer, f"{name}_slope", v, np.zeros_like(v)),
            _activation(layer, f"{name}_swish", "swish"),
        ),
    )
