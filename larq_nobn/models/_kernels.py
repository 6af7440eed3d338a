"""The kernels of a network's convolutions, real-valued and binary."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import larq as lq

from .._keras import keras
from ..quantizers import ScaledStandardization, ScaledStdSign

# Where nothing behind the convolution brings its output to scale, and for EvoNorm,
# whose activation needs values near 1 and not near 0.001 to be more than linear.
_GLOROT = frozenset({"none", "independent_component", "evonorm"})


@contextmanager
def without_starvation_warning() -> Iterator[None]:
    """Larq advises a kernel constraint; standardized kernels cannot starve."""
    log = logging.getLogger("larq.layers_base")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


@dataclass(frozen=True)
class Kernels:
    """What `QuantConv2D` is told of its kernel under one normalization.

    Arguments:
        normalization, binary_weights, variance_preserving, balanced, norm_first: As in
            `Parts`.
    """

    normalization: str
    binary_weights: bool
    variance_preserving: bool
    balanced: bool
    norm_first: bool = False

    def real(self, name: str, scale: float) -> dict[str, Any]:
        """Of a convolution that stays real-valued; only `"nobn"` has the scale."""
        if self.normalization != "nobn":
            return {"kernel_initializer": "he_normal"} if self.norm_first else {}
        quantizer = ScaledStandardization(scale=scale, name=f"{name}_kernel")
        return {"kernel_quantizer": quantizer}

    def binary(self, name: str, scale: float) -> dict[str, Any]:
        """Of a convolution whose kernel becomes binary in the second stage, if not yet.

        The published latent weights, and as small where a norm sets the scale: a weight
        of 0.1 needs a hundred steps to change its sign. Without either, the weights'
        magnitude is all that scales a branch, and Keras' default stays.
        """
        if self.normalization == "nobn":
            kernel = self.real(name, scale)
            if self.binary_weights:
                kernel["kernel_quantizer"] = ScaledStdSign(
                    scale=scale,
                    variance_preserving=self.variance_preserving,
                    balanced=self.balanced,
                    name=f"{name}_kernel",
                )
            initializer = keras.initializers.RandomUniform(0.0, 1e-3)
            return {**kernel, "kernel_initializer": initializer}
        kernel = {}
        if self.binary_weights:
            kernel["kernel_quantizer"] = lq.quantizers.MagnitudeAwareSign()
            kernel["kernel_constraint"] = lq.constraints.WeightClip(1.0)
        if self.normalization not in _GLOROT and not self.norm_first:
            kernel["kernel_initializer"] = keras.initializers.RandomUniform(-1e-3, 1e-3)
        return kernel
