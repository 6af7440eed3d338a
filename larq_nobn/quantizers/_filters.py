"""The filters of a kernel, as one column of weights per output unit."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from .._math import at_least_float32, fused, squared_offset, unit_sum


class Filters(NamedTuple):
    """The columns of a kernel, with the statistics of each."""

    columns: tf.Tensor  # (N, C), in the dtype of the kernel
    mean: tf.Tensor  # (C,), like all below, in float32 or better
    sigma: tf.Tensor  # population standard deviation
    absolute_deviation: tf.Tensor | None = None  # mean |W - mean|, if requested


@fused
def _absolute_and_square(
    columns: tf.Tensor, mean: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    offset = at_least_float32(columns) - mean
    return tf.abs(offset), tf.square(offset)


def measured_filters(kernel: tf.Tensor, deviation: bool = False) -> Filters:
    """Returns the filters of a kernel, with mean absolute deviations if requested."""
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
    """Computes amplitude·sign(W - center), with sign(0) = +1.

    A NaN stays one, as in Larq: as a sign it would hide that training has failed.
    """
    wide = at_least_float32(columns)
    value = tf.where(wide >= center, amplitude, -amplitude)
    return tf.cast(tf.where(tf.math.is_nan(wide), wide, value), columns.dtype)


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
    upstream: tf.Tensor, filters: Filters, factor: tf.Tensor, along: tf.Tensor
) -> tf.Tensor:
    """Returns the gradient of a standardization: factor·(g - mean g - along·(W-μ)).

    Here g is the upstream gradient, and the standardization multiplies W-μ by the
    factor; the term with `along` is the gradient through the factor.
    """
    across = unit_sum(at_least_float32(upstream)) / float(upstream.shape[0])
    return _affine(upstream, filters.columns, filters.mean, factor, along, across)


def standardization_factor(filters: Filters, epsilon: float) -> tf.Tensor:
    r"""Returns \(1 / (\sqrt N(\sigma+\epsilon))\) of every column, (C,)."""
    count = float(filters.columns.shape[0])
    return 1 / (count**0.5 * (filters.sigma + epsilon))


def standardization_gradient(
    upstream: tf.Tensor,
    inner: tf.Tensor,
    filters: Filters,
    gain: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    r"""Returns the gradient of \(g\,(W-\mu)\,/\,(\sqrt N(\sigma+\epsilon))\) in W.

    `inner` is Σ upstream·(W-μ) of every column, (C,). In a constant filter (σ = 0) the
    term with `inner` is absent, so its gradient is finite.
    """
    count = float(upstream.shape[0])
    sigma = filters.sigma
    along = tf.math.divide_no_nan(inner / count, sigma * (sigma + epsilon))
    factor = standardization_factor(filters, epsilon) * gain
    return centered_gradient(upstream, filters, factor, along)
