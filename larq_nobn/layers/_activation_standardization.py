from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras, register
from .._math import at_least_float32, fused, product
from ._channelwise import SameShape
from ._groups import group_mean, group_moments

_EPSILON = 1e-5  # added to the variance


@fused
def _value(x: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
    return tf.cast(at_least_float32(x) * rate, x.dtype)


@fused
def _slope(
    upstream: tf.Tensor,
    x: tf.Tensor,
    mean: tf.Tensor,
    rate: tf.Tensor,
    along: tf.Tensor,
) -> tf.Tensor:
    offset = at_least_float32(x) - mean
    slope = rate * (at_least_float32(upstream) - along * offset)
    return tf.cast(slope, x.dtype)


@tf.custom_gradient
def activation_standardization(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """x over the standard deviation of its example, with one fused gradient."""
    mean, variance = group_moments(x, 1)
    count = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), mean.dtype)
    unbiased = count / (count - 1)
    rate = tf.math.rsqrt(unbiased * variance + _EPSILON)

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        inner = unbiased * group_mean(product(upstream, x), 1)
        return _slope(upstream, x, mean, rate, inner * tf.square(rate))

    return _value(x, rate), grad


@register()
class ActivationStandardization(SameShape):
    r"""Divides every example by its standard deviation, in training only.

    With the mean \(m_n\) and the unbiased variance \(v_n\) over all \(M\) elements
    of an example, in training

    \[ y = x \, r_n, \qquad r_n = \frac{1}{\sqrt{v_n + 10^{-5}}}, \qquad
       \frac{\partial L}{\partial x} = r_n \Big( g - (x - m_n)
       \frac{r_n^2 \sum g x}{M - 1} \Big), \]

    with upstream gradient \(g\); at inference \(y = x\). It stands directly before a
    sign, which a positive factor does not change: only the pseudo-gradient of the sign
    sees the scale, so training and inference compute the same. At inference:
    **removed**.

    Arguments:
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        (batch, ..., C), of any rank from 2, with two elements or more per example.
        A mask passes on, and masked positions count in the statistics, as in Keras'
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
        The paper does not speak of it; its code does it, and this follows the code.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        if shape[1:].num_elements() == 1:
            raise InvalidValue(
                f"ActivationStandardization got an input of shape {tuple(shape)}, but "
                "one element has no variance; it needs two or more per example. Leave "
                "the layer out."
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        return keras.backend.in_train_phase(
            lambda: activation_standardization(inputs), inputs, training
        )
