"""The convolutions that networks are built from, under each normalization."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import larq as lq
import tensorflow as tf

from .._keras import keras
from ..layers import IndependentComponent, SignFlipDropout
from ..quantizers import RSign, ScaledStandardization, ScaledStdSign
from ._moments import Moments
from ._normalizers import BATCH_NORM, NORMALIZERS, batch_norm

# Where nothing behind the convolution brings its output to scale, and for EvoNorm,
# whose activation needs values near 1 and not near 0.001 to be more than linear.
_GLOROT = frozenset({"none", "independent_component", "evonorm"})


@contextmanager
def _without_starvation_warning() -> Iterator[None]:
    """Larq advises a kernel constraint; standardized kernels cannot starve."""
    log = logging.getLogger("larq.layers_base")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


@dataclass(frozen=True)
class Parts:
    """How a network's layers look under one normalization.

    Arguments:
        normalization: One of `NORMALIZATIONS`.
        binary_weights: Whether the binary layers have binary kernels already; False
            gives the first stage of two-stage training, with the same weight names.
        estimator: The gradient estimator of the activations' sign, as in `RSign`.
        variance_preserving, balanced: As in `ScaledStdSign`; for `"nobn"` only.
    """

    normalization: str
    binary_weights: bool
    estimator: str
    variance_preserving: bool
    balanced: bool
    _moments: Moments = field(default_factory=Moments)

    @property
    def is_free(self) -> bool:
        """Whether the kernels carry what batch norm would otherwise do."""
        return self.normalization == "nobn"

    def _binary_kernel(self, name: str, scale: float) -> dict[str, Any]:
        # The published latent weights, and as small where a norm sets the scale: a
        # weight of 0.1 needs a hundred steps to change its sign. Without either, the
        # weights' magnitude is all that scales a branch, and Keras' default stays.
        if self.is_free:
            quantizer = (
                ScaledStdSign(
                    scale=scale,
                    variance_preserving=self.variance_preserving,
                    balanced=self.balanced,
                    name=f"{name}_kernel",
                )
                if self.binary_weights
                else ScaledStandardization(scale=scale, name=f"{name}_kernel")
            )
            initializer = keras.initializers.RandomUniform(0.0, 1e-3)
            return {"kernel_quantizer": quantizer, "kernel_initializer": initializer}
        kernel: dict[str, Any] = {}
        if self.binary_weights:
            kernel["kernel_quantizer"] = lq.quantizers.MagnitudeAwareSign()
            kernel["kernel_constraint"] = lq.constraints.WeightClip(1.0)
        if self.normalization not in _GLOROT:
            kernel["kernel_initializer"] = keras.initializers.RandomUniform(-1e-3, 1e-3)
        return kernel

    def apply(self, layer: keras.layers.Layer, inputs: Any) -> tf.Tensor:
        """Calls a layer of the network; every one goes through here."""
        if self.normalization == "kalman":
            return self._moments.apply(layer, inputs)
        return layer(inputs)

    def _normalize(self, x: tf.Tensor, name: str, branch: bool) -> tf.Tensor:
        if self.normalization == "kalman":
            return self._moments.normalize(x, f"{name}_norm")
        return NORMALIZERS[self.normalization](x, f"{name}_norm", branch)

    def float_conv(
        self, x: tf.Tensor, channels: int, size: int, strides: int, name: str
    ) -> tf.Tensor:
        """A real-valued convolution of real-valued inputs, normalized."""
        kernel: dict[str, Any] = {}
        if self.is_free:
            kernel["kernel_quantizer"] = ScaledStandardization(name=f"{name}_kernel")
        conv = lq.layers.QuantConv2D(
            channels,
            size,
            strides,
            padding="same",
            use_bias=False,
            name=f"{name}_conv",
            **kernel,
        )
        return self._normalize(self.apply(conv, x), name, branch=False)

    def binary_conv(
        self,
        x: tf.Tensor,
        channels: int,
        size: int,
        strides: int,
        name: str,
        alpha: float,
        beta: float,
    ) -> tf.Tensor:
        """alpha times the binary convolution of sign(beta·x + shift), normalized.

        Both factors belong to the normalizer-free form: alpha is part of the kernel's
        scale and beta of the sign's, so that neither is an operation of its own.
        """
        sign = RSign(
            scale=beta if self.is_free else 1.0,
            estimator=self.estimator,
            name=f"{name}_sign",
        )
        before = self.normalization == "independent_component"
        if before:
            # The flips keep the signs that dropout's zeros would become +1 at.
            x = sign(batch_norm(x, f"{name}_norm"))
            x = SignFlipDropout(name=f"{name}_flip")(x)
        with _without_starvation_warning():
            conv = lq.layers.QuantConv2D(
                channels,
                size,
                strides,
                padding="same",
                pad_values=1.0,
                use_bias=False,
                # Bits already, which the marker tells Larq's summary.
                input_quantizer=lq.quantizers.NoOp(precision=1) if before else sign,
                name=f"{name}_conv",
                **self._binary_kernel(name, alpha),
            )
        return self._normalize(self.apply(conv, x), name, branch=True)

    def pooled_shortcut(
        self, x: tf.Tensor, channels: int, strides: int, name: str, beta: float
    ) -> tf.Tensor:
        """beta·x averaged over 2x2 and projected by a binary 1x1 kernel, normalized.

        The input stays real, hence the convolution: beta is linear and joins its scale.
        """
        pool = keras.layers.AveragePooling2D(
            2, strides, padding="same", name=f"{name}_pool"
        )
        with _without_starvation_warning():
            conv = lq.layers.QuantConv2D(
                channels,
                1,
                use_bias=False,
                name=f"{name}_conv",
                **self._binary_kernel(name, beta),
            )
        x = self.apply(pool, x)
        if self.normalization == "independent_component":
            x = IndependentComponent(name=f"{name}_norm", **BATCH_NORM)(x)
        return self._normalize(self.apply(conv, x), name, branch=False)
