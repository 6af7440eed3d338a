"""The quantizers of activations in their inference form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np

from ..._keras import keras
from ...graph import rebuild
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


def plain_sign(quantizer: RSign) -> ShiftedSign:
    """Drops the scale of an RSign: sign(a x + b) = sign(x + b / a) for positive a."""
    if quantizer.shift is None:
        return ShiftedSign(None, name=quantizer.name)
    shift = quantizer.shift.numpy() / np.float32(quantizer.scale)
    return ShiftedSign(shift, name=quantizer.name)


def copy_quantizer(quantizer: Any) -> tuple[Any, Callable[[], None]]:
    """Returns a float32 copy, and what gives it its weights once it is built."""
    if isinstance(quantizer, RSign):
        return plain_sign(quantizer), nothing
    if not isinstance(quantizer, keras.layers.Layer):
        return quantizer, nothing
    unmeasured = {"metrics": None} if isinstance(quantizer, MeasuredQuantizer) else {}
    new = rebuild(quantizer, float32=True, **unmeasured)
    return new, lambda: new.set_weights(quantizer.get_weights())


def nothing() -> None:
    """Fills a layer that has no weights to fill."""
