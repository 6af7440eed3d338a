"""Batch norm before a sign: its gain and bias become a threshold per channel."""

from __future__ import annotations

import larq as lq
import numpy as np

from ...graph import Steps, threshold_of_affine
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

    With the quantizer sign(s z + b), what counts is the threshold of s k x + s c + b,
    at a positive a in the place of s |k|. Its pseudo-gradient's window is the one
    before where |k| is the median.

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
    # Of what is in half precision, it takes the sign in float32.
    double = quantizer.compute_dtype == "float64"
    dtype = np.float64 if double else np.float32
    threshold = threshold_of_affine(scale * gain, scale * bias + own, steps, dtype)
    factor = scale * float(np.median(np.abs(gain)))
    with np.errstate(over="ignore"):
        far = np.abs(factor * threshold.value) >= 1e30
    if np.any(far):
        raise NotExact("some of its gains are as good as 0")
    return Shift(
        factor,
        equal.estimator,
        equal.power,
        threshold.shift(factor, dtype),
        quantizer.dtype_policy.name,
        scaling.trainable,
    )
