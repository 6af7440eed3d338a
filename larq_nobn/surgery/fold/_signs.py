"""Batch norm before a sign: its gain and bias become a threshold per channel."""

from __future__ import annotations

import larq as lq
import numpy as np

from ...graph import Steps
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


def shifted(
    quantizer: lq.quantizers.Quantizer, scaling: Scaling, steps: Steps | None
) -> Shift:
    """The sign of k x + c as an `RSign` of x, up to the sign of k.

    With the quantizer sign(s z + b), a positive a in the place of s |k| leaves
    sign(a (x - t)) with t = -(s c + b) / (s k), where k > 0; where k < 0, that is
    negated. Its estimator's window is the one before where |k| is the median.

    Where x is t, the sign is +1 in either case, and so -1 before it is negated. If x is
    a whole number of steps, t moves to between two of them; if not, by one float.

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
    factor = scale * float(np.median(np.abs(gain)))
    if not np.all(np.abs(factor * threshold) < 1e30):
        raise NotExact("some of its gains are as good as 0")
    if steps is not None:
        threshold = steps.between(threshold, above=gain < 0)
    # Of what is in half precision, it takes the sign in float32.
    double = quantizer.compute_dtype == "float64"
    dtype = np.float64 if double else np.float32
    return Shift(
        factor,
        equal.estimator,
        equal.power,
        _exact(threshold, gain < 0, factor, dtype),
        quantizer.dtype_policy.name,
        scaling.trainable,
    )


def _exact(
    threshold: np.ndarray, above: np.ndarray, factor: float, dtype: type
) -> np.ndarray:
    """The shift for a threshold: what `RSign` makes of it is on the right side of it.

    Arguments:
        threshold: (C,). From it on the sign is +1.
        above: Where it is so only beyond it.
        factor: The scale of the sign.
        dtype: What it computes in.
    """
    edge: np.ndarray = threshold.astype(dtype)
    # Less would not be seen as more than 0 by processors that take the smallest
    # numbers for it.
    least = np.where(above & (edge == 0), 1e-30, edge)
    shift: np.ndarray = (-factor * least).astype(dtype)
    for _ in range(4):  # no more than three roundings lie between
        seen = -shift / dtype(factor)
        shift = np.where(above & (seen <= edge), np.nextafter(shift, -np.inf), shift)
        shift = np.where(~above & (seen > edge), np.nextafter(shift, np.inf), shift)
    return shift
