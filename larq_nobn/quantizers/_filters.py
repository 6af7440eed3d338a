"""A kernel as one column of weights per output unit: its filters."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from .._math import at_least_float32, fused, squared_offset, unit_sum


class Filters(NamedTuple):
    """The columns of a kernel, with the statistics of each."""

    columns: tf.Tensor  # (N, C), in the dtype of the kernel
    mean: tf.Tensor  # (C,), as all that follows in float32 or better
    sigma: tf.Tensor  # population standard deviation
    deviation: tf.Tensor | None = None  # mean |W - mean|, where it is wanted


@fused
def _absolute_and_square(
    columns: tf.Tensor, mean: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    offset = at_least_float32(columns) - mean
    return tf.abs(offset), tf.square(offset)


def filters(kernel: tf.Tensor, deviation: bool = False) -> Filters:
    """Measures every filter of a kernel, its mean absolute deviation if asked to."""
    columns = tf.reshape(kernel, (-1, kernel.shape[-1]))
    count = float(columns.shape[0])
    mean = unit_sum(at_least_float32(columns)) / count
    if not deviation:
        sigma = tf.sqrt(unit_sum(squared_offset(columns, mean)) / count)
        return Filters(columns, mean, sigma)
    absolute, square = _absolute_and_square(columns, mean)
    sigma = tf.sqrt(unit_sum(square) / count)
    return Filters(columns, mean, sigma, unit_sum(absolute) / count)


@fused
def signed(columns: tf.Tensor, center: tf.Tensor, amplitude: tf.Tensor) -> tf.Tensor:
    """amplitude·sign(W - center), with sign(0) = +1."""
    positive = at_least_float32(columns) >= center
    return tf.cast(tf.where(positive, amplitude, -amplitude), columns.dtype)


@fused
def _affine(
    upstream: tf.Tensor,
    columns: tf.Tensor,
    mean: tf.Tensor,
    factor: tf.Tensor,
    along: tf.Tensor,
    across: tf.Tensor,
) -> tf.Tensor:
    offset = at_least_float32(columns) - mean
    slope = factor * (at_least_float32(upstream) - across - along * offset)
    return tf.cast(slope, columns.dtype)


def centered_gradient(
    upstream: tf.Tensor, of: Filters, factor: tf.Tensor, along: tf.Tensor
) -> tf.Tensor:
    """factor·(upstream - its mean - along·(W-μ)), the gradient of a standardization.

    The factor is what multiplies W-μ there; `along` is what its change amounts to.
    """
    across = unit_sum(at_least_float32(upstream)) / float(upstream.shape[0])
    return _affine(upstream, of.columns, of.mean, factor, along, across)


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
