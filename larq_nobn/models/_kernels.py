"""The kernels of a network's convolutions, real-valued and binary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._keras import keras
from .._larq import lq
from ..quantizers import ScaledStandardization, ScaledStdSign
from ._normalizations import NORMALIZATIONS
from ._offset import OFFSET

# Mean of the largest of a max pool's values, in their standard deviations, by the
# pool's size. Of independent normal values it would be 1.03 for 2x2 and 1.49 for 3x3,
# but neighbors are alike; measured of random kernels on images.
_MAXIMUM = {1: 0.0, 2: 0.85, 3: 1.03}


@dataclass(frozen=True)
class Kernels:
    """What `QuantConv2D` is told of its kernel under one normalization.

    Arguments:
        normalization, binary_weights, variance_preserving, balanced, norm_first, bias,
            quick: As in `Parts`.
    """

    normalization: str
    binary_weights: bool
    variance_preserving: bool
    balanced: bool
    norm_first: bool = False
    bias: bool = False
    quick: bool = True

    def _bias(self, deviation: float, pool: int) -> dict[str, Any]:
        if self.normalization != "nobn" or not self.bias:
            return {"use_bias": False}
        # Maxima above zero would leave all signs after the pool at +1.
        start = OFFSET - deviation * _MAXIMUM[pool]
        centered = keras.initializers.Constant(start)
        return {"use_bias": True, "bias_initializer": centered}

    def real(self, name: str, scale: float, pool: int = 1) -> dict[str, Any]:
        """Of a convolution that stays real-valued; only `"nobn"` has the scale.

        `pool` is the size of the max pool after the convolution.
        """
        kernel = self._bias(scale, pool)
        if self.normalization != "nobn":
            start = {"kernel_initializer": "he_normal"} if self.norm_first else {}
            return {**kernel, **start}
        quantizer = ScaledStandardization(scale=scale, name=f"{name}_kernel")
        return {**kernel, "kernel_quantizer": quantizer}

    def binary(self, name: str, scale: float, pool: int = 1) -> dict[str, Any]:
        """Of a convolution whose kernel becomes binary in the second stage, if not yet.

        The published latent weights, and as small where a norm sets the scale: a weight
        of 0.1 needs a hundred steps to change its sign. Without either, the weights'
        magnitude is all that scales a branch, and Keras' default stays.
        """
        if self.normalization == "nobn":
            kernel = self.real(name, scale, pool)
            if self.binary_weights:
                # The mean magnitude of uniform latent weights is 0.87 times their σ.
                deviation = scale * (1.0 if self.variance_preserving else 0.75**0.5)
                kernel |= self._bias(deviation, pool)
                kernel["kernel_quantizer"] = ScaledStdSign(
                    scale=scale,
                    variance_preserving=self.variance_preserving,
                    balanced=self.balanced,
                    name=f"{name}_kernel",
                )
            if self.quick:
                initializer = keras.initializers.RandomUniform(0.0, 1e-3)
                kernel["kernel_initializer"] = initializer
            return kernel
        kernel = self._bias(scale, pool)
        if self.binary_weights:
            kernel["kernel_quantizer"] = lq.quantizers.MagnitudeAwareSign()
            kernel["kernel_constraint"] = lq.constraints.WeightClip(1.0)
        if NORMALIZATIONS[self.normalization].scaled and not self.norm_first:
            kernel["kernel_initializer"] = keras.initializers.RandomUniform(-1e-3, 1e-3)
        return kernel
