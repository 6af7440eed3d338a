"""Weight standardization: what real-valued and binary kernels share."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_number
from ._filters import Filters, centered_gradient
from ._kernel_quantizer import ScaledKernel


def standardization_rate(of: Filters, epsilon: float) -> tf.Tensor:
    r"""\(1 / (\sqrt N(\sigma+\epsilon))\) of every column, (C,)."""
    count = float(of.columns.shape[0])
    return 1 / (count**0.5 * (of.sigma + epsilon))


def standardization_gradient(
    upstream: tf.Tensor, inner: tf.Tensor, of: Filters, gain: tf.Tensor, epsilon: float
) -> tf.Tensor:
    r"""Gradient of \(g\,(W-\mu)\,/\,(\sqrt N(\sigma+\epsilon))\) with respect to W.

    A constant filter (σ = 0) has the finite gradient that remains when its direction
    vanishes. `inner` is Σ upstream·(W-μ) of every column, (C,).
    """
    count = float(upstream.shape[0])
    along = tf.math.divide_no_nan(inner / count, of.sigma * (of.sigma + epsilon))
    factor = standardization_rate(of, epsilon) * gain
    return centered_gradient(upstream, of, factor, along)


class StandardizedKernel(ScaledKernel):
    """Abstract base: the arguments and the gain of both quantizers."""

    _in_config = "epsilon"

    def __init__(
        self,
        gain: bool = True,
        scale: float = 1.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(gain=gain, scale=scale, **kwargs)
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-5.")

    def build(self, input_shape: tf.TensorShape) -> None:
        self._check_filters(tf.TensorShape(input_shape))
        super().build(input_shape)
