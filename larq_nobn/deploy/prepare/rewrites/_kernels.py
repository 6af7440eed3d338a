"""The values of binary kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....graph import Call, kernel_value, split_kernel
from ..._binary import is_zero_one


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
