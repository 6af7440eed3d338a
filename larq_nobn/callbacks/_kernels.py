"""Quantized kernels as the training step sees them, looked at from outside."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from .._keras import keras
from .._larq import kernel_in_layer, lq
from .._math import at_least_float32
from ..quantizers import ReCU
from ..quantizers._filters import filters
from ..quantizers._recu import clamped


class QuantizedKernel:
    """A kernel with a quantizer of Larq's kind.

    Calling the layer's own quantizer would move its metrics and add its losses, so the
    values come from a copy, which takes over the weights at every look. They are in the
    precision of the layer.
    """

    def __init__(self, layer: keras.layers.Layer, variable: Any) -> None:
        self._layer, self._variable = layer, variable
        self._axes = _filter_axes(layer, variable)
        self.latent = variable.latent_variable
        self.quantizer = variable.quantizer
        self.size = variable.shape.num_elements()
        self._copy, self._pairs = self.quantizer, []
        if isinstance(self.quantizer, keras.layers.Layer):
            config = self.quantizer.get_config()
            self._copy = type(self.quantizer).from_config(config)
            self._value()  # makes its weights
            self._pairs = [
                *zip(self._copy.weights, self.quantizer.weights, strict=True)
            ]

    def value(self) -> tf.Tensor:
        """What the forward pass multiplies with."""
        for mine, given in self._pairs:
            mine.assign(given)
        return self._value()

    def _value(self) -> tf.Tensor:
        return kernel_in_layer(self._layer, self._variable, self._copy)

    @property
    def latent_free(self) -> bool:
        """Whether the variable itself contains the signs, as for `Bop`."""
        return self._inside(lq.quantizers.NoOp) is not None

    def _inside(self, kind: type) -> Any:
        if not isinstance(self.quantizer, tf.Module):
            return None
        parts = (self.quantizer, *self.quantizer.submodules)
        return next((part for part in parts if isinstance(part, kind)), None)

    def dead(self, tau: float) -> tf.Tensor | int:
        """How many latent weights lie beyond the quantile, at τ of a `ReCU` inside."""
        if self.latent_free:
            return 0
        recu = self._inside(ReCU)
        known = tau if recu is None else recu.tau
        return beyond_quantile(self.latent, self._axes, tf.convert_to_tensor(known))


def beyond_quantile(
    kernel: tf.Tensor, axes: tuple[int, ...], tau: tf.Tensor
) -> tf.Tensor:
    """Counts the latent weights that ReCU would clamp, of filters with these axes."""
    w = at_least_float32(tf.convert_to_tensor(kernel))
    others = [axis for axis in range(w.shape.rank) if axis not in axes]
    size = math.prod(w.shape[axis] for axis in axes)
    if size == 1:  # no variance, and no tail either
        return tf.constant(0, tf.int64)
    of = filters(
        tf.reshape(tf.transpose(w, [*axes, *others]), (size, -1)), deviation=True
    )
    _, _, limit = clamped(of, tau)
    return tf.math.count_nonzero(tf.abs(of.columns - of.mean) > limit)


def _filter_axes(layer: keras.layers.Layer, variable: Any) -> tuple[int, ...]:
    """The axes of one filter of a kernel: all but those of the output channels."""
    rank = variable.shape.rank
    kept = {rank - 1}
    if isinstance(layer, keras.layers.Conv2DTranspose | keras.layers.Conv3DTranspose):
        kept = {rank - 2}  # (..., out, in)
    elif "depthwise_kernel" in variable.name:
        kept = {rank - 2, rank - 1}  # (..., in, multiplier)
    return tuple(axis for axis in range(rank) if axis not in kept)
