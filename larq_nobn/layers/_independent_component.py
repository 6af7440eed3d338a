from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidValue
from .._keras import Configured, check_seed, keras, register


def _binarizes(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer binarizes its input before anything else."""
    if isinstance(layer, keras.layers.Activation):
        first = layer.activation
    else:
        first = getattr(layer, "input_quantizer", None) or layer
    return getattr(first, "precision", None) == 1


@register()
class IndependentComponent(Configured, keras.layers.BatchNormalization):
    r"""Batch norm and dropout before a layer with weights.

    With the batch's mean μ and variance σ² in training and moving averages of them at
    inference, and with a mask \(k\) in training that is 1 with probability
    \(q = 1 - \text{rate}\), else 0,

    \[ y = \frac{k}{q} \Bigl( \gamma_c \frac{x - \mu_c}{\sqrt{\sigma_c^2 + \epsilon}}
       + \beta_c \Bigr) ; \]

    the gradient is that of this formula for the mask that was drawn; at inference
    \(k = q = 1\). Dropout makes channels less dependent: it multiplies the correlation
    of two channels by q. At inference: **folded** like batch norm, into the multiplier
    and bias of a binary convolution before it.

    Use it before layers of real-valued inputs. A sign after it, such as an
    `input_quantizer`, turns the zeros of dropout into +1: there use
    `BatchNormalization`, the sign, then `SignFlipDropout`. Functional and Sequential
    models with a sign right after it cannot be trained; in other models the layer does
    not know what follows it.

    Arguments:
        rate: Fraction of values set to zero in training, in [0, 1).
        momentum: Of the moving averages, in [0, 1). Networks have 0.9.
        epsilon: ε, in units of x². Networks have 1e-5.
        seed: Whole number that decides the draws; None uses the seed of Keras.
        **kwargs: Further arguments of Keras' BatchNormalization, such as `center` or
            `name`.

    Weights:
        gamma, beta: Shape (C,), starting at 1 and 0.
        moving_mean, moving_variance: Shape (C,), not trained, starting at 0 and 1.

    Input shape:
        (batch, ..., C), of any rank from 2.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For a rate, momentum, epsilon or seed that is not in its
            interval; in training, for a sign right after.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        x = nobn.layers.IndependentComponent()(tf.random.normal((8, 16)))
        y = tf.keras.layers.Dense(4)(x)
        ```

    References:
        - G. Chen, P. Chen, Y. Shi, C.-Y. Hsieh, B. Liao, S. Zhang, "Rethinking the
          Usage of Batch Normalization and Dropout in the Training of Deep Neural
          Networks", 2019, arXiv:1905.05928.

    Differences from the paper:
        None known.
    """

    _in_config = "rate seed axis=_given_axis"  # Keras rewrites its own axis in `build`

    def __init__(
        self,
        rate: float = 0.05,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            momentum=check_number("momentum", momentum, "[0, 1)", "Use 0.99."),
            epsilon=check_number("epsilon", epsilon, "(0, inf)", "Use 1e-3."),
            **kwargs,
        )
        self.rate = check_number("rate", rate, "[0, 1)", "Use 0.05; 0 drops nothing.")
        self.seed = check_seed(seed)
        how = {"seed": self.seed, "force_generator": seed is not None}
        self._dropout = keras.layers.Dropout(self.rate, dtype=self.dtype_policy, **how)
        self._given_axis = kwargs.get("axis", -1)

    def call(
        self, inputs: tf.Tensor, training: Any = None, mask: Any = None
    ) -> tf.Tensor:
        if self.rate > 0 and training is True:
            self._check_signs()
        y = super().call(inputs, training=training, mask=mask)
        return self._dropout(y, training=training)

    def _check_signs(self) -> None:
        for consumer in (node.layer for node in self.outbound_nodes):
            if _binarizes(consumer):
                raise InvalidValue(
                    f"Layer {self.name!r} (IndependentComponent, rate={self.rate}) "
                    f"feeds {consumer.name!r}, whose sign turns the zeros of dropout "
                    "into +1. Use BatchNormalization, then the sign as a layer, then "
                    "SignFlipDropout."
                )
