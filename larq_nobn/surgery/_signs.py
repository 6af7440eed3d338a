"""Signs, as the `RSign` that equals them in value and estimator."""

from __future__ import annotations

from typing import Any, NamedTuple

import larq as lq
import numpy as np

from ..quantizers import ReSTE, RSign, SigmoidSign


class Equal(NamedTuple):
    """The arguments of an `RSign`, and its shift, (C,), or None for none."""

    scale: float
    estimator: str
    shift: np.ndarray | None = None
    power: float = 1.0


def as_rsign(quantizer: Any) -> Equal | None:
    """What equals a sign, if there is an estimator like its own.

    That of `SteSign` passes gradients between -1 and 1 of the scaled input; for another
    window the scale makes up, which also divides the gradients by it.
    """
    kind = type(quantizer)
    if kind is RSign:
        shift = quantizer.whole_shift()
        power = 1.0 if quantizer.power is None else float(quantizer.power)
        return Equal(quantizer.scale, quantizer.estimator, shift, power)
    if kind is ReSTE:
        return Equal(1.0, "reste", power=float(quantizer.power))
    if kind is SigmoidSign:
        return Equal(quantizer.slope / 3, "sigmoid_sign")
    if kind is lq.quantizers.ApproxSign:
        return Equal(1.0, "approx_sign")
    if kind is lq.quantizers.SteSign and quantizer.clip_value:
        return Equal(1 / quantizer.clip_value, "ste_sign")
    return None
