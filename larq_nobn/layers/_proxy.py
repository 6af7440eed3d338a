from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_integer, check_number
from .._errors import InvalidValue
from .._keras import check_option, keras, register
from .._math import at_least_float32, beside, channel_sum, fused, with_gradient
from ._channelwise import ChannelwiseLayer
from ._group_statistics import check_groups, group_mean, group_moments
from ._proxy_moments import NEGATIVE_SLOPES, exact_moments, sampled_moments

Activation = Callable[[tf.Tensor], tf.Tensor]

# Added to the variance of a group, as in GroupNorm.
FLOOR = 1e-5


@fused
def _value(
    x: tf.Tensor,
    mean: tf.Tensor,
    scale: tf.Tensor,
    beta: tf.Tensor,
    center: tf.Tensor,
    rate: tf.Tensor,
    *,
    activation: Activation,
) -> tf.Tensor:
    z = activation((at_least_float32(x) - mean) * scale + beta)
    return tf.cast((z - center) * rate, x.dtype)


@fused
def _products(
    x: tf.Tensor,
    upstream: tf.Tensor,
    mean: tf.Tensor,
    inverse: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    center: tf.Tensor,
    rate: tf.Tensor,
    *,
    activation: Activation,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the terms whose sums are the gradients of beta, gamma and the rate."""
    g = at_least_float32(upstream)
    normalized = (at_least_float32(x) - mean) * inverse
    y = gamma * normalized + beta
    with tf.GradientTape() as tape:
        tape.watch(y)
        z = activation(y)
    d_y = tape.gradient(z, y, g * rate)
    return d_y, d_y * normalized, g * (z - center)


@fused
def _slope(
    d_y: tf.Tensor,
    x: tf.Tensor,
    mean: tf.Tensor,
    inverse: tf.Tensor,
    gamma: tf.Tensor,
    across: tf.Tensor,
    along: tf.Tensor,
) -> tf.Tensor:
    normalized = (at_least_float32(x) - mean) * inverse
    return tf.cast(inverse * (gamma * d_y - across - normalized * along), x.dtype)


@with_gradient
def normalized_activation(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    center: tf.Tensor,
    rate: tf.Tensor,
    *,
    activation: Activation,
    groups: int,
) -> tuple[tf.Tensor, Callable]:
    """Computes rate·(activation(gamma·GroupNorm(x) + beta) - center).

    It has a fused gradient.
    """
    mean, variance = group_moments(x, groups)
    inverse = tf.math.rsqrt(variance + FLOOR)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        weights = (gamma, beta, center, rate)
        d_y, d_gamma, d_rate = _products(
            x, upstream, mean, inverse, *weights, activation=activation
        )
        # One number per example and channel; only they couple the positions of a group.
        channels = x.shape[-1]
        across, along = group_mean(d_y, channels), group_mean(d_gamma, channels)
        positions = tf.cast(tf.size(x) / tf.size(across), across.dtype)
        by_group = [group_mean(gamma * each, groups) for each in (across, along)]
        return (
            _slope(d_y, x, mean, inverse, gamma, *by_group),
            positions * channel_sum(along),
            positions * channel_sum(across),
            -rate * channel_sum(upstream),
            channel_sum(d_rate),
        )

    scale = inverse * gamma
    value = _value(x, mean, scale, beta, center, rate, activation=activation)
    return value, grad


def _activation(value: Any) -> tuple[Activation, Any]:
    """Returns the function that `value` is or names, and its form in configurations."""
    try:
        named = value is None or isinstance(value, str | dict)
        if not named and not hasattr(value, "__name__"):
            raise InvalidValue("Keras saves functions by name, and no objects")
        function = keras.activations.get(value)
        serialized = keras.activations.serialize(function)
        keras.activations.deserialize(serialized)
    except ValueError as error:
        raise InvalidValue(
            f"activation={value!r} is not an elementwise function that Keras can save. "
            "Pass the name of one, such as 'relu', or a function that is registered by "
            "keras.saving.register_keras_serializable()."
        ) from error
    return function, serialized


@register()
class ProxyNormalization(ChannelwiseLayer):
    r"""Layer or group norm and an activation, normalized again by a Gaussian proxy.

    With the mean μ and the variance σ² over all positions and the channels of each
    group of an example,

    \[ n = \frac{x - \mu}{\sqrt{\sigma^2 + 10^{-5}}}, \quad
       z = \phi(\gamma_c n + \beta_c), \quad
       y = \frac{z - m_c}{\sqrt{v_c + \epsilon}} , \]

    where \(m_c, v_c\) are mean and variance of \(\phi(\gamma_c Y + \beta_c)\) for a
    normal Y with mean \(\tilde\beta_c\) and standard deviation \(1 + \tilde\gamma_c\):
    over the `num_samples` equally probable quantiles of Y, or exactly. All gradients
    are those of these formulas, through \(m_c\) and \(v_c\) too. As with batch norm,
    channels have mean 0 and variance 1 after the activation, but the layer is
    batch-independent. A sign can follow the layer, but must not be its activation. At
    inference: **kept**, with two reductions over each example; \(m_c\) and \(v_c\)
    become constants.

    Arguments:
        activation: φ, a Keras activation or its name; elementwise.
        groups: Number of groups, a divisor of the channels; 1 is layer norm.
        num_samples: Quantiles of Y, 2 or more. None, as in networks, for the exact
            moments, with `"relu"`, `"leaky_relu"` (slope 0.2) and `"linear"` only.
        epsilon: ε, in units of the activation's variance.
        proxy_regularizer: Keras regularizer of \(\tilde\gamma\) and \(\tilde\beta\),
            which pulls Y to the standard normal; None for none.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gamma_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gamma, beta: γ, starting at 1, and β, starting at 0, shape (C,) each.
        proxy_gamma, proxy_beta: \(\tilde\gamma\) and \(\tilde\beta\), shape (C,) each,
            starting at 0.

    Input shape:
        (batch, ..., C), channels last. Each group needs two values or more: a map of a
        single position needs groups of two channels or more.
        Masks are passed on, and masked positions count in the statistics, as in Keras'
        `LayerNormalization`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an activation that Keras cannot save, or that has no
            exact moments if `num_samples` is None; a number outside its range; an
            unknown regularizer; groups that do not divide the channels or contain a
            single value; or an unknown number of channels.

    Example:
        ```python
        import tensorflow as tf
        import larq_nobn as nobn

        norm = nobn.layers.ProxyNormalization(
            "relu", proxy_regularizer=tf.keras.regularizers.L2(1e-4)
        )
        y = norm(tf.random.normal((2, 8, 8, 16)))
        ```

    References:
        - A. Labatie, D. Masters, Z. Eaton-Rosen, C. Luschi, "Proxy-Normalizing
          Activations to Match Batch Normalization while Removing Batch Dependence",
          NeurIPS 2021, arXiv:2106.03743.

    Differences from the paper:
        The exact moments are an addition.
    """

    _in_config = "activation=_serialized groups num_samples epsilon proxy_regularizer"
    _tunable = "gamma beta proxy_gamma proxy_beta"

    def __init__(
        self,
        activation: Any = "relu",
        groups: int = 1,
        num_samples: int | None = 200,
        epsilon: float = 0.03,
        proxy_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.activation, self._serialized = _activation(activation)
        self.groups = check_integer("groups", groups, 1, "Use 1 for layer norm.")
        self.num_samples = num_samples
        if num_samples is not None:
            advice = "Use 200, or None for exact moments."
            self.num_samples = check_integer("num_samples", num_samples, 2, advice)
        elif self._serialized not in list(NEGATIVE_SLOPES):
            raise InvalidValue(
                f"num_samples=None asks for exact moments, which only "
                f"{', '.join(NEGATIVE_SLOPES)} have; got activation={activation!r}. "
                "Use num_samples=200."
            )
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 0.03.")
        self.proxy_regularizer = check_option("proxy_regularizer", proxy_regularizer)

    def build(self, input_shape: tf.TensorShape) -> None:
        check_groups("ProxyNormalization", self.groups, tuple(input_shape))
        self.gamma = self.add_channel_weight("gamma", 1.0, input_shape)
        self.beta = self.add_channel_weight("beta", 0.0, input_shape)
        decay = {"regularizer": self.proxy_regularizer}
        self.proxy_gamma = self.add_channel_weight(
            "proxy_gamma", 0.0, input_shape, **decay
        )
        self.proxy_beta = self.add_channel_weight(
            "proxy_beta", 0.0, input_shape, **decay
        )
        super().build(input_shape)

    def _proxy_moments(
        self, gamma: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        mean = gamma * tf.cast(self.proxy_beta, gamma.dtype) + beta
        deviation = gamma * (1 + tf.cast(self.proxy_gamma, gamma.dtype))
        if self.num_samples is None:
            return exact_moments(NEGATIVE_SLOPES[self._serialized], mean, deviation)
        return sampled_moments(self.activation, mean, deviation, self.num_samples)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        gamma, beta = beside(inputs, self.gamma), beside(inputs, self.beta)
        center, variance = self._proxy_moments(gamma, beta)
        rate = tf.math.rsqrt(variance + self.epsilon)
        weights = (gamma, beta, center, rate)
        return normalized_activation(
            inputs, *weights, activation=self.activation, groups=self.groups
        )
