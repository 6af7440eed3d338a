"""Quantized kernels as the training step sees them, looked at from outside."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import keras
from .._larq import kernel_in_layer, lq
from .._math import at_least_float32
from ..quantizers import ReCU
from ..quantizers._filters import filters
from ..quantizers._recu import clamped

_TRANSPOSED = (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


class QuantizedKernel:
    """A kernel with a quantizer of Larq's kind.

    Calling the layer's own quantizer would move its metrics and add its losses, so the
    values come from a copy, which takes over the weights at every look. They are in the
    precision of the layer.
    """

    def __init__(self, layer: keras.layers.Layer, variable: Any) -> None:
        self._layer, self._variable = layer, variable
        self.latent = variable.latent_variable
        self.quantizer = variable.quantizer
        self.size = variable.shape.num_elements()
        self._copy, self._pairs = self.quantizer, []
        if isinstance(self.quantizer, keras.layers.Layer):
            config = self.quantizer.get_config()
            self._copy = type(self.quantizer).from_config(config)
            self.value()  # makes its weights
            pairs = zip(self._copy.weights, self.quantizer.weights, strict=True)
            self._pairs = list(pairs)

    def value(self) -> tf.Tensor:
        """What the forward pass multiplies with."""
        for mine, given in self._pairs:
            mine.assign(given)
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
        columns = self._columns()
        if columns.shape[0] == 1:  # no variance, and no tail either
            return 0
        of = filters(columns, deviation=True)
        known = tau if recu is None else recu.tau
        _, _, limit = clamped(of, tf.convert_to_tensor(known))
        return tf.math.count_nonzero(tf.abs(of.columns - of.mean) > limit)

    def _columns(self) -> tf.Tensor:
        """The latent weights of each filter, that is of each output channel."""
        w = at_least_float32(tf.convert_to_tensor(self.latent))
        if isinstance(self._layer, _TRANSPOSED):  # (..., out, in)
            w = tf.linalg.matrix_transpose(w)
        depthwise = "depthwise_kernel" in self._variable.name  # (..., in, multiplier)
        channels = w.shape[-2] * w.shape[-1] if depthwise else w.shape[-1]
        return tf.reshape(w, (-1, channels))
