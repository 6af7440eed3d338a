from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_channels, check_integer, check_number
from .._keras import check_option, register
from .._math import at_least_float32, beside, channel_sum, fused, with_gradient
from ._channelwise import ChannelwiseLayer
from ._group_statistics import check_groups, group_mean, group_moments

_GROUPS = 32  # in the paper


@fused
def _value(x: tf.Tensor, v: tf.Tensor, scale: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    wide = at_least_float32(x)
    return tf.cast(wide * tf.sigmoid(v * wide) * scale + beta, x.dtype)


@fused
def _products(
    upstream: tf.Tensor, x: tf.Tensor, v: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns upstream·h and upstream·dh/dv, where h = x·σ(vx)."""
    along, t = at_least_float32(upstream) * at_least_float32(x), v * at_least_float32(x)
    gate = tf.sigmoid(t)
    # In this order nothing overflows: the slope of σ is 0 long before x² is infinite.
    return along * gate, along * (at_least_float32(x) * (gate * tf.sigmoid(-t)))


@fused
def _slope(
    upstream: tf.Tensor,
    x: tf.Tensor,
    v: tf.Tensor,
    direct: tf.Tensor,
    mean: tf.Tensor,
    along: tf.Tensor,
) -> tf.Tensor:
    wide = at_least_float32(x)
    t = v * wide
    gate = tf.sigmoid(t)
    slope = gate + t * (gate * tf.sigmoid(-t))
    d_x = at_least_float32(upstream) * direct * slope - (wide - mean) * along
    return tf.cast(d_x, x.dtype)


@with_gradient
def evonorm_s0(
    x: tf.Tensor,
    v: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    *,
    groups: int,
    epsilon: float,
) -> tuple[tf.Tensor, Callable]:
    """Computes gamma·x·σ(v·x)/sqrt(var + epsilon) + beta, with one fused gradient."""
    mean, variance = group_moments(x, groups)
    inverse_std = tf.math.rsqrt(variance + epsilon)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with_value, with_v = (
            group_mean(each, x.shape[-1]) for each in _products(upstream, x, v)
        )
        positions = tf.cast(tf.size(x) / tf.size(with_value), gamma.dtype)
        along = inverse_std**3 * group_mean(gamma * with_value, groups)
        return (
            _slope(upstream, x, v, inverse_std * gamma, mean, along),
            positions * channel_sum(gamma * inverse_std * with_v),
            positions * channel_sum(inverse_std * with_value),
            channel_sum(upstream),
        )

    return _value(x, v, inverse_std * gamma, beta), grad


@register()
class EvoNormS0(ChannelwiseLayer):
    r"""Group-variance normalization and activation in one expression, found by search.

    With the population variance of every example over the positions and the C/G
    channels of a group,

    \[ h = x\, \sigma(v_c x), \qquad r = \frac{1}{\sqrt{\operatorname{var}_g(x) +
       \epsilon}}, \qquad y = \gamma_c\, r h + \beta_c . \]

    With upstream gradient \(g\), group mean \(\mu\) and M values in a group,
    \(\partial L/\partial x = \gamma g r\,(\sigma + v x \sigma(1-\sigma)) - (x - \mu)
    \tfrac{r^3}{M} \sum_g \gamma g h\), \(\partial L/\partial v = \sum \gamma g r x^2
    \sigma(1-\sigma)\), \(\partial L/\partial\gamma = \sum g r h\),
    \(\partial L/\partial\beta = \sum g\). The layer is batch-independent. \(h\) has the
    sign of \(x\), so the layer has no use before a sign: use it in real-valued parts.
    At inference: **kept**, with two reductions over the positions.

    Arguments:
        groups: Number of groups G, a divisor of the number of channels C. None for 32,
            as in the paper, or the largest divisor of 32 and C. Networks have C/16.
        epsilon: Added to the variance, in units of x², positive.
        beta_initializer: Keras initializer of β, in units of y.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gamma_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        v: Shape (C,), starts at 1.
        gamma: Shape (C,), starts at 1.
        beta: Shape (C,).

    Input shape:
        (batch, ..., C), channels last.
        Masks are passed on, and masked positions count in the statistics, as in Keras'
        `LayerNormalization`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, an unknown number
            of channels, groups that do not divide it, or groups of a single value,
            whose variance is always zero.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        y = nobn.layers.EvoNormS0(groups=8)(tf.random.normal((2, 8, 8, 16)))
        ```

    References:
        - H. Liu, A. Brock, K. Simonyan, Q. V. Le, "Evolving Normalization-Activation
          Layers", NeurIPS 2020, arXiv:2004.02967.

    Differences from the paper:
        None known.
    """

    _in_config = "groups=_given_groups epsilon beta_initializer"
    _tunable = "v gamma beta"

    def __init__(
        self,
        groups: int | None = None,
        epsilon: float = 1e-5,
        beta_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._given_groups = groups
        self.groups = _GROUPS
        if groups is not None:
            self.groups = check_integer("groups", groups, 1, "The paper's is 32.")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-5.")
        self.beta_initializer = check_option("beta_initializer", beta_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        if self._given_groups is None:
            channels = check_channels("EvoNormS0", tuple(input_shape))
            self.groups = math.gcd(self.groups, channels)
        check_groups("EvoNormS0", self.groups, tuple(input_shape))
        self.v = self.add_channel_weight("v", 1.0, input_shape)
        self.gamma = self.add_channel_weight("gamma", 1.0, input_shape)
        self.beta = self.add_channel_weight("beta", self.beta_initializer, input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        weights = (beside(inputs, w) for w in (self.v, self.gamma, self.beta))
        return evonorm_s0(inputs, *weights, groups=self.groups, epsilon=self.epsilon)
