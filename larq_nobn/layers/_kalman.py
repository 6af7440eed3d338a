from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidValue
from .._keras import check_option, register
from .._math import (
    at_least_float32,
    beside,
    channel_sum,
    fused,
    offset_product,
    squared_offset,
    with_gradient,
)
from ._channelwise import ChannelwiseLayer, affine, average_weight

# A prior is wrong if its variances are this many times those of the batch on average.
_LARGEST_RATIO = 100


@fused
def _slope(
    upstream: tf.Tensor,
    x: tf.Tensor,
    direct: tf.Tensor,
    along: tf.Tensor,
    offset: tf.Tensor,
) -> tf.Tensor:
    slope = at_least_float32(upstream) * direct + at_least_float32(x) * along + offset
    return tf.cast(slope, x.dtype)


def normalize(
    x: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Computes gamma·(x - mean)/sqrt(variance + epsilon) + beta."""
    factor = gamma * tf.math.rsqrt(variance + epsilon)
    return affine(x, factor, beta - factor * mean)


def posterior(
    batch_mean: tf.Tensor,
    batch_variance: tf.Tensor,
    prior_mean: tf.Tensor,
    prior_variance: tf.Tensor,
    prior: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the prior's weight, the means' distance, and the mixture's moments."""
    # Also False if a channel is constant in both: 0/0 is NaN.
    usable = tf.reduce_mean(prior_variance / batch_variance) < _LARGEST_RATIO
    p = tf.where(usable, tf.constant(prior, batch_mean.dtype), 0)
    # Multiplying an infinite prior by its weight of 0 would give NaN.
    distance = tf.where(usable, batch_mean - prior_mean, 0)
    excess = tf.where(usable, prior_variance - batch_variance, 0)
    mean = batch_mean - p * distance
    variance = batch_variance + p * excess + p * (1 - p) * tf.square(distance)
    return p, distance, mean, variance


@with_gradient
def batch_kalman_norm(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    prior_mean: tf.Tensor,
    prior_variance: tf.Tensor,
    *,
    prior: float,
    epsilon: float,
) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], Callable]:
    """Returns the normalized batch, and its posterior mean and variance per channel."""
    count = tf.cast(tf.size(x) / x.shape[-1], gamma.dtype)
    batch_mean = channel_sum(x) / count
    batch_variance = channel_sum(squared_offset(x, batch_mean)) / count
    p, distance, mean, variance = posterior(
        batch_mean, batch_variance, prior_mean, prior_variance, prior
    )
    q = 1 - p

    def grad(
        d_y: tf.Tensor, d_mean: tf.Tensor, d_variance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        inverse_std = tf.math.rsqrt(variance + epsilon)
        total, inner = channel_sum(d_y), channel_sum(offset_product(d_y, x, mean))
        d_mean -= gamma * inverse_std * total
        d_variance -= 0.5 * gamma * inverse_std**3 * inner
        # d variance / d x_j = 2q (x_j - batch_mean + p distance) / count
        along = 2 * q * d_variance / count
        offset = q * d_mean / count - along * (batch_mean - p * distance)
        d_x = _slope(d_y, x, gamma * inverse_std, along, offset)
        d_prior_mean = p * (d_mean - 2 * q * distance * d_variance)
        return d_x, inverse_std * inner, total, d_prior_mean, p * d_variance

    return (normalize(x, mean, variance, gamma, beta, epsilon), mean, variance), grad


def _of_features(shape: Any) -> tf.TensorShape:
    """Returns the shape of x from the shapes of x or of [x, state]."""
    several = not isinstance(shape, tf.TensorShape) and any(
        isinstance(size, (tf.TensorShape, tuple, list)) for size in shape
    )
    return tf.TensorShape(shape[0] if several else shape)


@register()
class BatchKalmanNormalization(ChannelwiseLayer):
    r"""Batch norm with a prior on its moments, propagated from the previous such layer.

    The batch moments \(m_b, v_b\) of a channel, over the batch and all positions, are a
    noisy observation. The previous normalized layer's moments, propagated through the
    layers between, are a prior \(m_p, v_p\). With prior weight \(p\), the posterior
    moments are those of the mixture of both,

    \[ m = p\, m_p + (1-p)\, m_b, \qquad
       v = p\, v_p + (1-p)\, v_b + p(1-p)(m_b - m_p)^2, \qquad
       y = \gamma\, \frac{x - m}{\sqrt{v + \epsilon}} + \beta . \]

    If the mean over the channels of \(v_p/v_b\) is 100 or more, or there is no prior,
    p is 0, which is batch norm. With upstream gradients \(g\) of y, \(g_m, g_v\) of the
    posterior, and \(s = (v + \epsilon)^{-1/2}\),

    \[ d_m = g_m - \gamma s \textstyle\sum g, \qquad
       d_v = g_v - \tfrac12 \gamma s^3 \textstyle\sum g (x - m), \]

    \[ \frac{\partial L}{\partial x} = \gamma s\, g + \frac{1-p}{n}
       \big(d_m + 2 d_v (x - m_b) + 2 p\, d_v (m_b - m_p)\big), \]

    \[ \frac{\partial L}{\partial m_p} = p\, d_m - 2p(1-p)\, d_v (m_b - m_p), \qquad
       \frac{\partial L}{\partial v_p} = p\, d_v, \]

    \(\partial L/\partial\gamma = s\sum g(x - m)\) and \(\partial L/\partial\beta =
    \sum g\), with sums over the n values of a channel. Inference uses only the moving
    averages of m and v. At inference: **folded** into the multiplier and bias of a
    binary convolution before it.

    Arguments:
        prior: Weight p of the prior, in [0, 1).
        momentum: Of the moving averages, in [0, 1).
        epsilon: Added to the variance; in units of x², positive.
        beta_initializer: Keras initializer of β, in units of y.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gamma_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gamma, beta: Shape (C,); gamma starts at 1.
        moving_mean, moving_variance: Shape (C,), not trained; averages of m and v.

    Input shape:
        x of shape (batch, ..., C), of any rank from 2, alone or as `[x, state]`, where
        `state` is a pair (mean, variance) of shape (C,) each; `[x, mean, variance]`
        means the same. A mask of x becomes that of y, and masked positions count in the
        statistics, as in Keras' fused batch norm.

    Output shape:
        A pair: y of the shape of x, and the state (m, v), two float32 tensors of shape
        (C,). The state contains the moments of x, before the normalization; at
        inference, the moving averages. Pass it to `propagate_moments`.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, an unknown number
            of channels, or a state that is not two tensors of that many.

    Example:
        ```python
        import tensorflow as tf
        import larq_nobn as nobn

        norm = nobn.layers.BatchKalmanNormalization()
        prior = (tf.zeros(16), tf.ones(16))
        y, state = norm([tf.random.normal((2, 8, 8, 16)), prior], training=True)
        ```

    References:
        - G. Wang, J. Peng, P. Luo, X. Wang, L. Lin, "Batch Kalman Normalization:
          Towards Training Deep Neural Networks with Micro-Batches", 2018,
          arXiv:1802.03133.

    Differences from the paper:
        The paper learns a transition matrix and a gain; its published code has a fixed
        prior weight instead, as here. Moving variances average population variances;
        Keras' fused batch norm multiplies them by n/(n - 1).
    """

    _in_config = "prior momentum epsilon beta_initializer"
    _tunable = "gamma beta"

    def __init__(
        self,
        prior: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        beta_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        # Without autocast, so that Keras does not cast the float32 state.
        super().__init__(autocast=False, **kwargs)
        self.prior = check_number("prior", prior, "[0, 1)", "The paper uses 0.9.")
        self.momentum = check_number("momentum", momentum, "[0, 1)", "Use 0.9.")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-5.")
        self.beta_initializer = check_option("beta_initializer", beta_initializer)

    def build(self, input_shape: Any) -> None:
        shape = _of_features(input_shape)
        self.gamma = self.add_channel_weight("gamma", 1.0, shape)
        self.beta = self.add_channel_weight("beta", self.beta_initializer, shape)
        shape = self.gamma.shape
        self.moving_mean = average_weight(self, "moving_mean", shape, "zeros")
        self.moving_variance = average_weight(self, "moving_variance", shape, "ones")
        super().build(input_shape)

    def call(
        self, inputs: Any, training: bool | None = None
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        features, *state = tf.nest.flatten(inputs)
        x = tf.cast(features, self.compute_dtype)
        gamma, beta = beside(x, self.gamma), beside(x, self.beta)
        self._check_state(state)
        averages = (self.moving_mean, self.moving_variance)
        mean, variance = (beside(x, average) for average in averages)
        # A frozen layer uses the moving averages, as Keras' batch norm does.
        if not training or not self.trainable:
            y = normalize(x, mean, variance, gamma, beta, self.epsilon)
            return y, (mean, variance)
        prior_moments = [tf.cast(moment, gamma.dtype) for moment in state]
        y, *moments = batch_kalman_norm(
            x,
            gamma,
            beta,
            *(prior_moments or [tf.zeros_like(gamma)] * 2),
            prior=self.prior if state else 0.0,
            epsilon=self.epsilon,
        )
        for average, old, new in zip(averages, (mean, variance), moments, strict=True):
            step = (1 - self.momentum) * (old - new)
            average.assign_sub(tf.cast(step, average.dtype))
        return y, tuple(moments)

    def _check_state(self, state: Sequence[tf.Tensor]) -> None:
        if len(state) not in (0, 2) or not all(
            moment.shape.is_compatible_with(self.gamma.shape) for moment in state
        ):
            raise InvalidValue(
                f"Layer {self.name!r} got a state of shapes "
                f"{[tuple(moment.shape) for moment in state]}, but a state is a mean "
                f"and a variance for each of its {self.gamma.shape[0]} input channels. "
                "Use propagate_moments for the layers between."
            )

    def compute_output_shape(
        self, input_shape: Any
    ) -> tuple[tf.TensorShape, tuple[tf.TensorShape, tf.TensorShape]]:
        shape = _of_features(input_shape)
        return shape, (shape[-1:], shape[-1:])
