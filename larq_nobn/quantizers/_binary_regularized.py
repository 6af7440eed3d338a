from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_number
from .._errors import InvalidType
from .._keras import register
from .._larq import lq
from .._math import beside
from ..regularizers._binary_regularizer import BinaryRegularizer, binary_penalty
from ._kernel_quantizer import KernelQuantizer

_SMALLEST = 1e-4  # lower bound of the scale


def positive(scale: tf.Tensor) -> tf.Tensor:
    """Limits a learned scale to positive numbers; its Keras constraint."""
    return tf.maximum(scale, _SMALLEST)


def glorot_magnitude(kernel_shape: tf.TensorShape) -> float:
    """Returns the mean magnitude of a Glorot-uniform kernel, half of its limit."""
    *window, fan_in, fan_out = kernel_shape
    return math.sqrt(6 / (math.prod(window) * (fan_in + fan_out))) / 2


@register()
class BinaryRegularized(KernelQuantizer):
    r"""Adds a BNN+ penalty on the latent weights to any kernel quantizer.

    The value is that of the quantizer inside. The penalty, added to the losses, is

    \[ R_1 = \lambda \sum \big| \alpha - |w| \big| \qquad\text{or}\qquad
       R_2 = \lambda \sum (\alpha - |w|)^2, \]

    with strength \(\lambda\), a sum over all latent weights, and a scale \(\alpha\)
    that is learned with them:

    \[ \frac{\partial R_1}{\partial w} = -\lambda \operatorname{sign}(\alpha - |w|)
       \operatorname{sign}(w), \qquad
       \frac{\partial R_1}{\partial \alpha} = \lambda \sum
       \operatorname{sign}(\alpha - |w|), \]

    \[ \frac{\partial R_2}{\partial w} = -2\lambda\,(\alpha - |w|)
       \operatorname{sign}(w), \qquad
       \frac{\partial R_2}{\partial \alpha} = 2\lambda \sum (\alpha - |w|), \]

    in addition to the gradients of the quantizer inside. A layer that is called several
    times in a step has one penalty. At inference: **removed**; the quantizer inside
    decides about the kernel.

    Arguments:
        quantizer: The kernel quantizer inside: an object, its alias or configuration.
        order: 1 or 2, for the penalty R1 or R2.
        strength: λ, not negative. The recipe `"bnn_plus"` has 1e-7.
        per_channel: Whether every output channel has a scale of its own.
        initial_scale: Initial scale, 1e-4 or more, which is also its lower bound. None:
            the mean magnitude of a Glorot-uniform kernel of that shape.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Keras layer arguments, such as `name`.

    Weights:
        scale: α, shape (), or (C,) with `per_channel=True`, C the output channels.
            Weights of the quantizer inside, such as a `gain`, are included.

    Input shape:
        A kernel that the quantizer inside accepts; with `per_channel=True` one whose
        last axis contains the output channels: Conv1D to Conv3D, Dense.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, no quantizer, or
            one object given to layers of different kernel shape.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, input_quantizer="ste_sign", kernel_constraint="weight_clip",
            kernel_quantizer=nobn.quantizers.BinaryRegularized("ste_sign"),
        )
        ```

    References:
        - S. Darabi, M. Belbahri, M. Courbariaux, V. Partovi Nia, "Regularized Binary
          Network Training" (first called "BNN+: Improved Binary Network Training"),
          2018, arXiv:1812.11800.

    Differences from the paper:
        The paper multiplies the signs by the scale; here the quantizer inside decides
        the value. The default strength and initial scale are choices of this package;
        the recipe `"bnn_plus"` has a strength of 1e-7.
    """

    _in_config = "quantizer order strength per_channel initial_scale"

    def __init__(
        self,
        quantizer: Any,
        order: int = 1,
        strength: float = 1e-6,
        per_channel: bool = False,
        initial_scale: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.quantizer: Callable[[tf.Tensor], tf.Tensor] = (
            lq.quantizers.get_kernel_quantizer(quantizer)
        )
        if self.quantizer is None:
            raise InvalidType(
                "quantizer=None is not a kernel quantizer. Give a quantizer object, "
                "its alias or its configuration; for a real-valued kernel use the "
                "regularizer BinaryRegularizer."
            )
        self.precision = getattr(self.quantizer, "precision", None)
        checked = BinaryRegularizer(order, strength)
        self.order, self.strength = checked.order, checked.strength
        self.per_channel = check_flag("per_channel", per_channel)
        self.by_filter = per_channel or getattr(self.quantizer, "by_filter", False)
        self.initial_scale = initial_scale
        if initial_scale is not None:
            self.initial_scale = check_number(
                "initial_scale",
                initial_scale,
                f"[{_SMALLEST}, inf)",
                "Use None for that of a new kernel.",
            )

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        start = self.initial_scale or max(glorot_magnitude(shape), _SMALLEST)
        own = shape[-1:] if self.per_channel else ()
        self.scale = self.add_weight("scale", own, start, constraint=positive)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self._check_owner(inputs)
        # A second call in the same step would add the same penalty again.
        self._clear_losses()
        value = self.quantizer(inputs)
        penalty = binary_penalty(inputs, beside(inputs, self.scale), self.order)
        self.add_loss(self.strength * penalty)
        return self._measured(value)

    def get_config(self) -> dict[str, Any]:
        inside = lq.quantizers.serialize(self.quantizer)
        if isinstance(inside, dict):  # Keras adds the shape once the layer is built
            inside.pop("build_config", None)
        return {**super().get_config(), "quantizer": inside}
