"""Batch norm before a sign: its gain and bias become a threshold per channel."""

from __future__ import annotations

import larq as lq
import numpy as np

from ...quantizers import ReSTE, SigmoidSign, SignSwish
from .._signs import as_rsign
from ._plan import NotExact, Scaling, Shift

# These are sign(x), whatever their estimator.
PLAIN_SIGNS = (
    ReSTE,
    SigmoidSign,
    SignSwish,
    lq.quantizers.ApproxSign,
    lq.quantizers.SteSign,
    lq.quantizers.SwishSign,
)


def shifted(quantizer: lq.quantizers.Quantizer, scaling: Scaling) -> Shift:
    """The sign of k x + c as an `RSign` of x, up to the sign of k.

    With the quantizer sign(s z + b), a positive a in the place of s |k| leaves
    sign(a (x - t)) with t = -(s c + b) / (s k), where k > 0; where k < 0, that is
    negated. Its estimator's window is the one before where |k| is the median.

    Raises:
        NotExact: If no threshold, or no such estimator exists.
    """
    gain, bias = scaling.gain, scaling.bias
    equal = as_rsign(quantizer)
    if equal is None:
        raise NotExact(
            f"RSign has no estimator like that of {type(quantizer).__name__}"
        )
    scale, own = equal.scale, 0.0 if equal.shift is None else equal.shift.astype(float)
    if not np.all(gain):
        raise NotExact(f"{np.sum(gain == 0)} of its {gain.size} gains are 0")
    with np.errstate(over="ignore"):
        threshold = -(scale * bias + own) / (scale * gain)
    # sign(0) = +1: what is negated must be -1 there. Fewer would not be seen as more
    # than 0 by processors that take the smallest numbers for it.
    threshold = np.where((gain < 0) & (threshold == 0), 1e-30, threshold)
    factor = scale * float(np.median(np.abs(gain)))
    if not np.all(np.abs(factor * threshold) < 1e30):
        raise NotExact("some of its gains are as good as 0")
    return Shift(
        factor,
        equal.estimator,
        equal.power,
        -factor * threshold,
        quantizer.dtype_policy.name,
        scaling.trainable,
    )
