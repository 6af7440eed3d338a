from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras, register
from .._math import at_least_float32, fused, product
from ._channelwise import SameShape
from ._group_statistics import group_mean, group_moments

_EPSILON = 1e-5  # added to the variance


@fused
def _value(x: tf.Tensor, inverse_std: tf.Tensor) -> tf.Tensor:
    return tf.cast(at_least_float32(x) * inverse_std, x.dtype)


@fused
def _slope(
    upstream: tf.Tensor,
    x: tf.Tensor,
    mean: tf.Tensor,
    inverse_std: tf.Tensor,
    along: tf.Tensor,
) -> tf.Tensor:
    offset = at_least_float32(x) - mean
    slope = inverse_std * (at_least_float32(upstream) - along * offset)
    return tf.cast(slope, x.dtype)


@tf.custom_gradient
def activation_standardization(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Divides x by the standard deviation of its example; has one fused gradient."""
    mean, variance = group_moments(x, 1)
    count = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), mean.dtype)
    unbiased = count / (count - 1)
    inverse_std = tf.math.rsqrt(unbiased * variance + _EPSILON)

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        inner = unbiased * group_mean(product(upstream, x), 1)
        return _slope(upstream, x, mean, inverse_std, inner * tf.square(inverse_std))

    return _value(x, inverse_std), grad


@register()
class ActivationStandardization(SameShape):
    r"""Divides every example by its standard deviation, in training only.

    With the mean \(m_n\) and the unbiased variance \(v_n\) over all \(M\) elements
    of an example, in training

    \[ y = x \, r_n, \qquad r_n = \frac{1}{\sqrt{v_n + 10^{-5}}}, \qquad
       \frac{\partial L}{\partial x} = r_n \Big( g - (x - m_n)
       \frac{r_n^2 \sum g x}{M - 1} \Big), \]

    with upstream gradient \(g\); at inference \(y = x\). Put the layer directly before
    a sign. A positive factor does not change a sign, only its pseudo-gradient, so
    training and inference compute the same. At inference: **removed**.

    Arguments:
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        (batch, ..., C), of any rank from 2, with two elements or more per example.
        Masks are passed on, and masked positions count in the statistics, as in Keras'
        `LayerNormalization`.

    Output shape:
        The input shape.

    Raises:
        ValueError: If an example has a single element.

    Example:
        ```python
        import larq as lq
        import tensorflow as tf
        import larq_nobn as nobn

        x = nobn.layers.ActivationStandardization()(tf.random.normal((2, 8, 8, 32)))
        y = lq.layers.QuantConv2D(
            64, 3, input_quantizer="approx_sign", kernel_quantizer="recu"
        )(x)
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.

    Differences from the paper:
        The paper does not mention this step. The layer follows the paper's code.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        if shape[1:].num_elements() == 1:
            raise InvalidValue(
                f"ActivationStandardization got an input of shape {tuple(shape)}, but "
                "one element has no variance. Give it two or more elements per "
                "example, or leave the layer out."
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        return keras.backend.in_train_phase(
            lambda: activation_standardization(inputs), inputs, training
        )
