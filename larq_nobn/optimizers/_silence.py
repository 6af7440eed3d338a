"""The decay of silent latent weights, whose signs have not changed for long."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# The decay of the average rate of sign changes, and the rate below which a weight is
# silent, in the published code: a weight is silent 2,302 steps after a change.
MOMENTUM, THRESHOLD = 0.999, 1e-4


class Silence:
    """The signs of a kernel before a step, and how often each changed lately."""

    def __init__(self, variable: Any) -> None:
        latent = variable.latent_variable
        # Kernels of these quantizers change where a weight passes the filter's mean.
        self._centered = getattr(variable.quantizer, "by_filter", False)
        self.variables = self.signs, self.rate = tuple(
            tf.Variable(
                tf.zeros(latent.shape),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                name=f"{latent.name.partition(':')[0]}/{name}",
            )
            for name in ("signs", "flip_rate")
        )

    def offset(self, latent: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
        """Updates both; returns W - threshold of silent weights, 0 of all others."""
        offset = tf.cast(tf.convert_to_tensor(latent), tf.float32)
        if self._centered:
            offset -= tf.reduce_mean(offset, axes, keepdims=True)
        signs = tf.where(offset >= 0, 1.0, -1.0)
        flipped = tf.cast(self.signs * signs < 0, tf.float32)
        rate = MOMENTUM * self.rate + (1 - MOMENTUM) * flipped
        self.signs.assign(signs)
        self.rate.assign(rate)
        return tf.where(rate < THRESHOLD, offset, 0.0)
