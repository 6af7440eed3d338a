"""Weight standardization: what real-valued and binary kernels share."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from larq.quantizers import Quantizer

from .._checks import check_flag, check_number
from .._math import unit_sum


class Filters(NamedTuple):
    """A kernel as one column per output unit, with the statistics of each column."""

    centered: tf.Tensor  # (N, C): W - center
    sigma: tf.Tensor  # (C,): population standard deviation
    rate: tf.Tensor  # (C,): 1 / (sqrt(N) (sigma + epsilon))


def filters(kernel: tf.Tensor, epsilon: float) -> Filters:
    """Centers every filter of `kernel` on its mean and measures its spread."""
    columns = tf.reshape(kernel, (-1, kernel.shape[-1]))
    count = float(columns.shape[0])
    centered = columns - unit_sum(columns) / count
    sigma = tf.sqrt(unit_sum(tf.square(centered)) / count)
    return Filters(centered, sigma, 1 / (count**0.5 * (sigma + epsilon)))


def standardization_gradient(
    upstream: tf.Tensor, of: Filters, gain: tf.Tensor | float, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Gradient of \(g\,(W-\mu)\,/\,(\sqrt N(\sigma+\epsilon))\) with respect to W.

    Two reductions and one affine map per column; a constant filter (σ = 0) has the
    finite gradient that remains when its direction vanishes.

    Returns:
        The gradient, (N, C), and the inner products Σ upstream·(W-μ), (C,).
    """
    count = float(upstream.shape[0])
    inner = unit_sum(upstream * of.centered)
    along = tf.math.divide_no_nan(inner / count, of.sigma * (of.sigma + epsilon))
    factor = of.rate * gain
    across = factor * (unit_sum(upstream) / count)
    return upstream * factor - (of.centered * (factor * along) + across), inner


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
        """The gain as a float32 tensor, once `kernel` is known to be its owner's."""
        if not self._use_gain:
            return tf.ones(kernel.shape[-1:])
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
