from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import RandomLayer, keras, once_positional, register, weight_of
from .._larq import lq
from .._math import at_least_float32, channel_sum, fused, with_gradient
from ._rsign import ThresholdSign, rsign, rsign_gradient


@fused
def _mixed(
    x: tf.Tensor,
    uniform: tf.Tensor,
    fraction: tf.Tensor,
    shift: tf.Tensor,
    scale: tf.Tensor,
) -> tf.Tensor:
    """Returns sign(z) where uniform < fraction, and clip(z, -1, 1) elsewhere."""
    wide = at_least_float32(x)
    signs = lq.math.sign(wide - -shift / scale)  # as at inference
    clipped = tf.clip_by_value(scale * wide + shift, -1.0, 1.0)
    return tf.cast(tf.where(uniform < fraction, signs, clipped), x.dtype)


@with_gradient
def progressive_sign(
    x: tf.Tensor,
    shift: tf.Tensor,
    *,
    scale: float,
    uniform: tf.Tensor,
    fraction: tf.Tensor,
) -> tuple[tf.Tensor, Callable]:
    """Mixes signs and clipped inputs; all have the gradient of the clipped input."""
    factor = tf.constant(scale, shift.dtype)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        d_x = rsign_gradient(upstream, x, shift, factor, estimator="ste_sign")
        return d_x, channel_sum(d_x) / scale

    return _mixed(x, uniform, fraction, shift, factor), grad


@register("progressive_sign")
class ProgressiveSign(RandomLayer, ThresholdSign):
    r"""Binary activation that replaces a clipped one entry by entry during training.

    With \(z = a x + b_c\), and in training a mask \(m\) that every step draws again, 1
    with probability \(p\) for each entry, else 0,

    \[ q(x) = m \operatorname{sign}(z) + (1 - m) \operatorname{clip}(z, -1, 1), \qquad
       \frac{\partial L}{\partial x} = a\, g\, 1[|z| \le 1], \qquad
       \frac{\partial L}{\partial b_c} = \sum_{n,h,w} g\, 1[|z| \le 1], \]

    with sign(0) = +1, shift \(b_c\) and fixed positive scale \(a\): the derivative of
    the clipped entries, and the straight-through estimator of the signs. At inference
    all entries are signs, \(q(x) = \operatorname{sign}(x + b_c/a)\), so training and
    inference compute the same only once \(p = 1\): `callbacks.ProgressiveBinarization`
    raises it from 0, layer by layer from the input. Replicas draw different masks. At
    inference: **folded** into one subtraction before the binary convolution.

    Arguments:
        scale: Fixed positive factor a.
        shift: Whether to learn b; without it b = 0, and the threshold is 0.
        offset: Initial value of the shift; with `shift=False`, a constant shift.
        fraction: Initial p, in [0, 1].
        seed: Whole number that decides the draws; None uses the seed of Keras.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `shift_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        shift: Shape (C,), C the channels; starts at `offset`. Only with `shift=True`.
        fraction: p, shape (), not trained, saved with the model.

    Input shape:
        (batch, ..., C), of any rank from 2.

    Output shape:
        The input shape; at inference the values are -1 and +1.

    Raises:
        TypeError, ValueError: For a scale that is not a positive number, a fraction
            outside [0, 1], a seed that is not a whole number from 0, an unknown number
            of channels, or one object given to inputs of different channel counts.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer=nobn.quantizers.ProgressiveSign(),
            kernel_quantizer="scaled_std_sign",
        )
        ```

    References:
        - E. Gibson Smith, B. Islam, "Layerwise Progressive Freezing: A Training
          Scaffold for Depth-Scalable Binary Networks", 2026, arXiv:2606.27759 (StoMPP).

    Differences from the paper:
        This follows the abstract and a summary, without the paper's schedule and soft
        refresh of the masks. Here every step draws new masks, and only activations are
        replaced progressively, not kernels. The paper also has a form without the
        straight-through part. Shift and scale are additions.
    """

    fraction_weight = weight_of("fraction")
    _in_config = "fraction=_initial_fraction"

    @once_positional("shift", "offset", "fraction")
    def __init__(
        self,
        scale: float = 1.0,
        *,
        shift: bool = True,
        offset: float = 0.0,
        fraction: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(scale=scale, shift=shift, offset=offset, **kwargs)
        self.fraction = self._initial_fraction = check_number(
            "fraction", fraction, "[0, 1]", "Start with 0, and end with 1."
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        start = self._initial_fraction
        self.fraction = self.add_weight("fraction", (), start, trainable=False)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        shift = self._shift_for(inputs)
        value = keras.backend.in_train_phase(
            lambda: progressive_sign(
                inputs,
                shift,
                scale=self.scale,
                uniform=self._random_generator.random_uniform(
                    tf.shape(inputs), dtype="float32"
                ),
                fraction=tf.cast(self.fraction, tf.float32),
            ),
            lambda: rsign(inputs, shift, scale=self.scale, estimator="ste_sign"),
            training,
        )
        return self._measured(value)
