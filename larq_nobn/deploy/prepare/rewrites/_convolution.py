"""The binary convolution that LCE computes, and what makes of it that of the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...._keras import keras
from .._inference import BinaryConvolution
from ._border import border_sums
from ._geometry import Geometry, padded_as
from ._kernels import BinaryKernel
from ._layers import ConstantLess, PlusLast
from ._signs import Signs


def convolution(
    name: str,
    kernel: BinaryKernel,
    bias: np.ndarray,
    place: Geometry,
    signs: Signs,
    activation: Any,
) -> list[Any]:
    """The layers from the sign to the activation, in a row."""
    values, scale = kernel.signs, kernel.scale
    if kernel.zero_one:  # half of what the signs make, and of what ones would
        values = np.concatenate([values, np.ones_like(values[..., :1])], axis=-1)
        scale, bias = np.full(values.shape[-1], 0.5), np.append(bias, 0.0)
    more: Any = 0.0
    if signs.mean:  # also of what meets nothing but the padding
        more = signs.mean * values.astype(np.float64).sum(axis=(0, 1, 2))
    padding = padded_as(place, signs.factor, signs.mean)
    if padding.place is not place:
        values = values[place.rows.met(), place.columns.met()]
        place = padding.place
    if padding.differs:
        # What pads the map in LCE, less what the model pads it with.
        pads = signs.of_zero if place.causal else padding.value
        pads = np.broadcast_to(pads, values.shape[2]) - padding.wanted
        sums = border_sums(values * pads[:, None], place.rows, place.columns)
        more = more - signs.factor * sums
    offset = more * scale + bias
    turn = np.float32(np.sign(signs.factor) * (-1 if padding.differs else 1))
    simple = not (padding.differs or kernel.zero_one)
    conv = BinaryConvolution(
        values * turn,
        scale=scale * abs(signs.factor),
        offset=None if padding.differs else offset,
        last=activation if simple else None,
        filters=values.shape[-1],
        kernel_size=place.kernel_size,
        strides=(place.rows.stride, place.columns.stride),
        dilation_rate=(place.rows.dilation, place.columns.dilation),
        padding="valid" if place.causal else place.columns.padding,
        pad_values=padding.value,
        name=name,
    )
    conv.input_quantizer = signs.quantizer
    row: list[Any] = [conv]
    if padding.differs:
        row.append(ConstantLess(offset, name=f"{name}/border"))
    if kernel.zero_one:
        row.append(PlusLast(name=f"{name}/sum"))
    if not simple and activation is not keras.activations.linear:
        row.append(keras.layers.Activation(activation, name=f"{name}/activation"))
    return row
