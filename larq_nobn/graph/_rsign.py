"""Signs as `RSign`, which has a threshold to take over what stood before them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._larq import lq
from ..quantizers import ProgressiveSign, ReSTE, RSign, SigmoidSign
from ._operation import Operation


class RSignArguments(NamedTuple):
    """The arguments of an `RSign`, and its shift, (C,), or None for none."""

    scale: float
    estimator: str
    shift: np.ndarray | None = None
    power: float = 1.0

    def operation(self, name: str, **more: Any) -> Operation:
        """Returns the `RSign`, with more arguments."""
        values = {} if self.shift is None else {"shift": self.shift}
        arguments = {**self._asdict(), "shift": self.shift is not None, **more}
        return Operation(name, RSign, None, arguments, values)


def as_rsign(quantizer: Any) -> RSignArguments | None:
    """Returns the arguments of an `RSign` equal to a sign; None if there is none.

    `SteSign` passes gradients between -1 and 1 of the scaled input; for another window
    the scale makes up, which also divides the gradients by it.
    """
    kind = type(quantizer)
    if kind is RSign:
        shift = quantizer.whole_shift()
        power = 1.0 if quantizer.power is None else float(quantizer.power)
        return RSignArguments(quantizer.scale, quantizer.estimator, shift, power)
    if kind is ProgressiveSign:
        return RSignArguments(quantizer.scale, "ste_sign", quantizer.whole_shift())
    if kind is ReSTE:
        return RSignArguments(1.0, "reste", power=float(quantizer.power))
    if kind is SigmoidSign:
        return RSignArguments(quantizer.slope / 3, "sigmoid_sign")
    if kind is lq.quantizers.ApproxSign:
        return RSignArguments(1.0, "approx_sign")
    if kind is lq.quantizers.SteSign and quantizer.clip_value:
        return RSignArguments(1 / quantizer.clip_value, "ste_sign")
    return None
