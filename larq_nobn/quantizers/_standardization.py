"""Weight standardization: what real-valued and binary kernels share."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from larq.quantizers import Quantizer

from .._checks import check_flag, check_number
from .._math import at_least_float32, fused, unit_sum


class Filters(NamedTuple):
    """A kernel as one column per output unit, with the statistics of each column."""

    columns: tf.Tensor  # (N, C), in the dtype of the kernel
    mean: tf.Tensor  # (C,), as all that follows in float32 or better
    deviation: tf.Tensor  # mean |W - mean|
    sigma: tf.Tensor  # population standard deviation
    rate: tf.Tensor  # 1 / (sqrt(N) (sigma + epsilon))


@fused
def _absolute_and_square(
    columns: tf.Tensor, mean: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    offset = at_least_float32(columns) - mean
    return tf.abs(offset), tf.square(offset)


def filters(kernel: tf.Tensor, epsilon: float) -> Filters:
    """Measures every filter of `kernel`."""
    columns = tf.reshape(kernel, (-1, kernel.shape[-1]))
    count = float(columns.shape[0])
    mean = unit_sum(at_least_float32(columns)) / count
    absolute, square = _absolute_and_square(columns, mean)
    sigma = tf.sqrt(unit_sum(square) / count)
    rate = 1 / (count**0.5 * (sigma + epsilon))
    return Filters(columns, mean, unit_sum(absolute) / count, sigma, rate)


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


def standardization_gradient(
    upstream: tf.Tensor,
    inner: tf.Tensor,
    of: Filters,
    gain: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    r"""Gradient of \(g\,(W-\mu)\,/\,(\sqrt N(\sigma+\epsilon))\) with respect to W.

    A constant filter (σ = 0) has the finite gradient that remains when its direction
    vanishes.

    Arguments:
        upstream: (N, C).
        inner: Σ upstream·(W-μ) of every column, (C,).
        of: The filters.
        gain: g, (C,).
        epsilon: ε.
    """
    count = float(upstream.shape[0])
    across = unit_sum(at_least_float32(upstream)) / count
    along = tf.math.divide_no_nan(inner / count, of.sigma * (of.sigma + epsilon))
    return _affine(upstream, of.columns, of.mean, of.rate * gain, along, across)


class StandardizedKernel(Quantizer):
    """Abstract base: the arguments, the gain and the guards of both quantizers."""

    def __init__(
        self,
        gain: bool = True,
        scale: float = 1.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        # The latent kernel arrives in the layer's compute dtype and leaves in it; in
        # between everything is float32, so Keras must not cast.
        super().__init__(autocast=False, **kwargs)
        self._use_gain = check_flag("gain", gain)
        self.gain: Any = gain
        self.scale = check_number(
            "scale", scale, "(0, inf)", "It multiplies the kernel; 1 leaves it alone."
        )
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-5.")

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        fan_in = shape[:-1].num_elements()
        if shape.rank < 2 or fan_in < 2:
            raise ValueError(
                f"{type(self).__name__} got a kernel of shape {tuple(shape)}, whose "
                "filters have a single weight; standardization needs at least two. "
                "Leave such a layer without kernel_quantizer."
            )
        if self._use_gain:
            self.gain = self.add_weight(
                name="gain",
                shape=(shape[-1],),
                initializer="ones",
                experimental_autocast=False,
            )
        self._kernel_shape = shape
        super().build(input_shape)

    def _gain_for(self, kernel: tf.Tensor) -> tf.Tensor:
        """The gain, once `kernel` is known to be its owner's."""
        if not self._use_gain:
            return tf.ones(kernel.shape[-1:], at_least_float32(kernel).dtype)
        if kernel.shape != self._kernel_shape:
            raise ValueError(
                f"One {type(self).__name__} object got kernels of shape "
                f"{tuple(self._kernel_shape)} and {tuple(kernel.shape)}, but it owns "
                "the gain of one layer. Give each layer a quantizer of its own."
            )
        return tf.convert_to_tensor(self.gain)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gain": self._use_gain,
            "scale": self.scale,
            "epsilon": self.epsilon,
        }
