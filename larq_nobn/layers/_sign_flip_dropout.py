from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import RandomLayer, keras, register
from .._math import fused
from ._channelwise import SameShape


@fused
def sign_flip_dropout(x: tf.Tensor, uniform: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
    """Replaces each ±1 with probability `rate` by a random sign, a fair coin."""
    # One draw decides both: below `rate` an element is replaced, below half of it by
    # its opposite.
    coin = tf.where(uniform < rate / 2, -x, x)
    return tf.where(uniform < rate, tf.stop_gradient(coin), x)


@register()
class SignFlipDropout(RandomLayer, SameShape):
    r"""Dropout for signs: replaces some of them by random signs.

    In training, with independent uniform \(u\) in [0, 1) and the rate \(p\),

    \[ y = \begin{cases} -x & u < p/2 \\ x & \text{otherwise} \end{cases}, \qquad
       \frac{\partial L}{\partial x} = g \, 1[u \ge p] , \]

    so that \(E[y] = (1 - p) x\). A replaced element passes no gradient, even if its
    random sign equals the old one. Use the layer in place of dropout, whose zeros a
    sign would turn into +1. At inference: **removed**.

    Arguments:
        rate: Fraction of replaced signs, in [0, 1). Half as many are flipped.
        seed: Whole number that decides the draws; None uses the seed of Keras.
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        Any; the values are -1 and +1.

    Output shape:
        The input shape; the values are -1 and +1.

    Raises:
        TypeError, ValueError: For a rate that is not a number in [0, 1), or a seed that
            is not a whole number from 0.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import tensorflow as tf

        image = tf.keras.Input((8, 8, 32))
        x = lq.quantizers.SteSign()(image)
        x = nobn.layers.SignFlipDropout(0.1)(x)
        x = lq.layers.QuantConv2D(32, 3, kernel_quantizer="scaled_std_sign")(x)
        ```

    References:
        - G. Chen, P. Chen, Y. Shi, C.-Y. Hsieh, B. Liao, S. Zhang, "Rethinking the
          Usage of Batch Normalization and Dropout in the Training of Deep Neural
          Networks", 2019, arXiv:1905.05928.

    Differences from the paper:
        The paper sets real activations to zero and rescales the others. Here, for
        binary networks, nothing is rescaled, since values must remain ±1.
    """

    _in_config = "rate"

    def __init__(self, rate: float = 0.05, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = check_number("rate", rate, "[0, 1)", "Use 0.05; 0 drops nothing.")

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        return keras.backend.in_train_phase(
            lambda: sign_flip_dropout(
                inputs,
                self._random_generator.random_uniform(
                    tf.shape(inputs), dtype="float32"
                ),
                tf.constant(self.rate),
            ),
            inputs,
            training,
        )
