"""The quantizers of activations in their inference form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import as_quantizer, rebuild
from ...quantizers import ReSTE, RSign, SigmoidSign, SignSwish
from ...quantizers._measured import MeasuredQuantizer
from ._inference import ShiftedSign

# The signs of prepared models whose threshold is 0, or that of a shift.
SIGNS = (
    ShiftedSign,
    lq.quantizers.SteSign,
    lq.quantizers.ApproxSign,
    lq.quantizers.SwishSign,
    ReSTE,
    SigmoidSign,
    SignSwish,
)


class PlainTernary(lq.quantizers.Quantizer):
    """-1, 0 or +1, in a spelling that LCE does not take for a sign.

    Larq's is the sign of a sum of two signs, and LCE makes a plain sign of that.

    Arguments:
        threshold: From this magnitude on it is no 0; None for that of ternary weight
            networks.
        **kwargs: Keras layer arguments.
    """

    precision = 2

    def __init__(self, threshold: float | None, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self._threshold = threshold

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "threshold": self._threshold}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        threshold = self._threshold
        if threshold is None:  # that of ternary weight networks
            threshold = 0.7 * tf.reduce_mean(tf.abs(inputs))
        up, down = inputs >= threshold, inputs <= -threshold
        return tf.cast(up, inputs.dtype) - tf.cast(down, inputs.dtype)


def plain_ternary(
    quantizer: lq.quantizers.SteTern, name: str | None = None
) -> PlainTernary:
    """Returns the same ternary quantizer in its inference form."""
    adapts = quantizer.ternary_weight_networks
    threshold = None if adapts else quantizer.threshold_value
    return PlainTernary(threshold, name=name or quantizer.name)


def plain_sign(quantizer: RSign, name: str | None = None) -> ShiftedSign:
    """Drops the scale of an RSign: sign(a x + b) = sign(x + b / a) for positive a."""
    shift = quantizer.whole_shift()
    if shift is not None:
        shift = shift / np.float32(quantizer.scale)
    return ShiftedSign(shift, name=name or quantizer.name)


def copy_quantizer(quantizer: Any) -> tuple[Any, Callable[[], None]]:
    """Returns a float32 copy, and what gives it its weights once it is built."""
    if isinstance(quantizer, RSign):
        return plain_sign(quantizer), nothing
    if type(quantizer) is lq.quantizers.SteTern:
        return plain_ternary(quantizer), nothing
    if not isinstance(quantizer, keras.layers.Layer):
        return as_quantizer(quantizer), nothing
    unmeasured = {"metrics": None} if isinstance(quantizer, MeasuredQuantizer) else {}
    new = rebuild(quantizer, float32=True, **unmeasured)
    return new, lambda: new.set_weights(quantizer.get_weights())


def nothing() -> None:
    """Fills a layer that has no weights to fill."""
