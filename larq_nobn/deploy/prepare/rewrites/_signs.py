"""How the input of a binary layer becomes ±1.

What meets the kernel is factor * t + mean, where t is ±1: t itself, or (1 - t) / 2 of
an input of 0 and 1. So the layer makes factor * conv(t) + mean * sum(kernel).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import larq as lq
import numpy as np

from ....graph import Call, kernel_value, split_kernel
from ..._binary import is_zero_one, sign_for
from .._inference import ShiftedSign
from .._quantizers import copy_quantizer, nothing


class Signs(NamedTuple):
    """How the input of a layer becomes ±1.

    Attributes:
        quantizer: The sign; None if the input is ±1.
        fill: Gives it its weights, once it is built.
        front: Gain and offset before the sign; None for none.
        factor, mean: What meets the kernel is factor * sign + mean.
        of_zero: What it makes of 0, with which maps are padded before it: a
            number, or (C,).
    """

    quantizer: Any
    fill: Callable[[], None] = nothing
    front: tuple[float, float] | None = None
    factor: float = 1.0
    mean: float = 0.0
    of_zero: Any = 1.0


def signs_of(call: Call, channels: slice, again: bool) -> Signs:
    """The sign before some of the input channels of a layer.

    Arguments:
        call: Of a binary layer.
        channels: Which.
        again: Whether LCE would not see a sign that stands before the layer.
    """
    own = getattr(call.layer, "input_quantizer", None)
    if isinstance(own, lq.quantizers.NoOp):
        own = None
    if is_zero_one(sign_for(call)):
        # It is 0 at 0, where the sign of the opposite is 1.
        front = (-2.0, 1.0) if own is None else (-1.0, 0.0)
        turned = ShiftedSign(None, -np.ones(channels.stop - channels.start))
        return Signs(turned, nothing, front, *mixture(call))
    if own is None:
        return Signs(ShiftedSign(None) if again else None)
    new, fill = copy_quantizer(own)
    if not isinstance(new, ShiftedSign) or new.shift is None:
        return Signs(new, fill)
    shift = new.shift.numpy()[channels]
    if len(shift) < len(new.shift):
        new = ShiftedSign(shift)
    return Signs(new, of_zero=np.where(shift >= 0, 1.0, -1.0))


def mixture(call: Call) -> tuple[float, float]:
    """The factor and the mean of what meets a layer's kernel."""
    return (-0.5, 0.5) if is_zero_one(sign_for(call)) else (1.0, 0.0)


class BinaryKernel(NamedTuple):
    """scale * signs, or (signs + 1) / 2 of a kernel of 0 and 1.

    Attributes:
        signs: ±1, (height, width, input channels, output channels).
        scale: (C,), not negative.
        zero_one: Whether its values are 0 and 1.
    """

    signs: np.ndarray
    scale: np.ndarray
    zero_one: bool


def binary_kernel(call: Call) -> BinaryKernel:
    """Reads the kernel of a binary layer as that of a 2D convolution."""
    kernel = kernel_value(call.layer.kernel)
    kernel = kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)
    if is_zero_one(getattr(call.layer, "kernel_quantizer", None)):
        signs = np.where(kernel > 0, np.float32(1), np.float32(-1))
        return BinaryKernel(signs, np.ones(kernel.shape[-1]), zero_one=True)
    split = split_kernel(kernel)
    assert split is not None  # or it were no binary layer
    return BinaryKernel(*split, zero_one=False)
