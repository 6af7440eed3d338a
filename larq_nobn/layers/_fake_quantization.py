from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import register
from .._math import at_least_float32, with_gradient
from ._channelwise import SameShape, average_weight

_STEPS = 255  # between the 256 values of eight bits


def representable_range(
    minimum: tf.Tensor, maximum: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the nearest range around 0 whose 256 values include 0 exactly."""
    step = (maximum - minimum) / _STEPS
    below = tf.round(tf.math.divide_no_nan(-minimum, step))
    return -below * step, (_STEPS - below) * step


@with_gradient
def fake_quantize(
    x: tf.Tensor, *, minimum: tf.Tensor, maximum: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """Rounds x to 8 bits over a range; gradients pass for values inside it."""

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        exact = at_least_float32(x)
        ends = [tf.cast(end, exact.dtype) for end in (minimum, maximum)]
        low, high = representable_range(*ends)
        inside = (exact >= low) & (exact <= high)
        return tf.where(inside, upstream, tf.zeros_like(upstream))

    # The converter reads ranges from this operation, which exists in float32 only.
    ends = [tf.cast(end, tf.float32) for end in (minimum, maximum)]
    wide = tf.cast(x, tf.float32)
    rounded = tf.quantization.fake_quant_with_min_max_vars(wide, *ends)
    return tf.cast(rounded, x.dtype), grad


@register()
class FakeQuantization(SameShape):
    r"""Quantizes a feature map to 8 bits, as the int8 TFLite model does.

    With the range \([l, h]\) around 0, one for the whole tensor,

    \[ s = \frac{h - l}{255}, \qquad z = \operatorname{round}(-l / s), \qquad
       y = s \Big(\operatorname{clip}\big(\operatorname{round}(x / s) + z, 0, 255\big)
       - z\Big), \qquad
       \frac{\partial L}{\partial x} = g \, 1[-sz \le x \le s(255 - z)] . \]

    Zero is always exact. In training every batch, with the extremes \(l_b \le 0 \le
    h_b\), first moves the range: it widens at once and narrows slowly,

    \[ l \leftarrow \min(l_b, \mu l + (1-\mu) l_b), \qquad
       h \leftarrow \max(h_b, \mu h + (1-\mu) h_b) , \]

    so one layer can be called on several tensors that must share a range. Until the
    first batch or `set_range` sets a range, the layer returns its input. With
    `trainable = False` the range is constant. At inference: **kept**, as the scale and
    zero point of a tensor; a layer with ranges on both sides computes in int8.

    Arguments:
        momentum: μ in [0, 1), per batch.
        **kwargs: Keras layer arguments, such as `name`.

    Weights:
        minimum, maximum: Scalars, not trained; in units of the input, 0 at first.

    Input shape:
        (batch, ...), of any rank.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For a momentum outside [0, 1), or a range without 0.

    Example:
        ```python
        import tensorflow as tf
        import larq_nobn as nobn

        layer = nobn.layers.FakeQuantization()
        y = layer(tf.constant([[-1.0, 0.001, 2.0]]), training=True)  # [[-1, 0, 2]]
        ```

    References:
        - B. Jacob, S. Kligys, B. Chen, M. Zhu, M. Tang, A. Howard, H. Adam,
          D. Kalenichenko, "Quantization and Training of Neural Networks for Efficient
          Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877.

    Differences from the paper:
        The paper averages ranges in both directions and delays quantization. Here a
        range widens at once, and rounding starts with the first range. Kernels are not
        rounded in training: the converter rounds them, per output channel.
    """

    _in_config = "momentum"

    def __init__(self, momentum: float = 0.99, **kwargs: Any):
        # The range stays in float32, as do the comparisons with it.
        super().__init__(**kwargs)
        self.momentum = check_number("momentum", momentum, "[0, 1)", "Use 0.99.")

    def build(self, input_shape: tf.TensorShape) -> None:
        self.minimum = average_weight(self, "minimum", (), "zeros")
        self.maximum = average_weight(self, "maximum", (), "zeros")
        super().build(input_shape)

    @property
    def has_range(self) -> bool:
        """Whether training or `set_range` has set a range."""
        return self.built and bool(self.maximum.numpy() > self.minimum.numpy())

    def set_range(self, minimum: float, maximum: float) -> None:
        """Sets the range; it must contain 0."""
        advice = "A range contains 0, which int8 represents exactly, and other values."
        check_number("minimum", minimum, "(-inf, 0]", advice)
        check_number("maximum", maximum, "[0, inf)", advice)
        self.minimum.assign(minimum)
        self.maximum.assign(maximum)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        low, high = map(tf.convert_to_tensor, (self.minimum, self.maximum))
        if training and self.trainable:
            low, high = self._updated(inputs, low, high)
            self.minimum.assign(low)
            self.maximum.assign(high)
        rounded = fake_quantize(inputs, minimum=low, maximum=high)
        return tf.where(high > low, rounded, inputs)

    def _updated(
        self, inputs: tf.Tensor, low: tf.Tensor, high: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.cast(inputs, low.dtype)
        least = tf.minimum(tf.reduce_min(x), 0)
        most = tf.maximum(tf.reduce_max(x), 0)
        # Loss scaling provokes overflows; one must not widen a range for good.
        finite = tf.math.is_finite(least) & tf.math.is_finite(most)

        def moved(end: tf.Tensor, new: tf.Tensor, outer: Callable) -> tf.Tensor:
            average = end + (1 - self.momentum) * (new - end)
            return tf.where(finite, outer(new, average), end)

        return moved(low, least, tf.minimum), moved(high, most, tf.maximum)
