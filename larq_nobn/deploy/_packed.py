"""The binary layers of a model as bits, for kernels of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._keras import keras
from ..layers._inference import BinaryConvolution, ShiftedSign, SignAbove
from ._convert import prepared
from ._errors import ConversionError


@dataclass(frozen=True)
class PackedKernel:
    """A binary layer: `activation(scales * (sign(x - thresholds) * w) + offsets)`.

    A sum is `n - 2 * popcount(x XOR w)` over the `n` weights that meet an input.

    Attributes:
        name: The layer's; of a layer in groups that of the group, such as 'conv/1'.
        bits: The kernel, uint8, (output channels, height, width, bytes). Input channel
            `8 * j + i` is bit `i` of byte `j`, with `i = 0` the lowest: 1 for +1 and 0
            for -1. Bits beyond the last input channel are 0.
        channels: The number of input channels.
        thresholds: Float32, (input channels,): an input is +1 where it is at least
            that, else -1. None where the input is ±1 already.
        scales: Float32, (output channels,).
        offsets: Float32, (output channels,).
        activation: The name of Keras' activation at the end; 'linear' for none.
        strides, dilation_rate: Two numbers each.
        padding: 'same' or 'valid'.
        pad_values: What stands around the ±1 inputs under 'same': 1, -1 or 0. What
            meets a 0 adds nothing to a sum.
    """

    name: str
    bits: np.ndarray
    channels: int
    thresholds: np.ndarray | None
    scales: np.ndarray
    offsets: np.ndarray
    activation: str
    strides: tuple[int, int]
    dilation_rate: tuple[int, int]
    padding: str
    pad_values: float

    def unpacked(self) -> np.ndarray:
        """Returns the ±1 kernel, (height, width, input channels, output channels)."""
        ones = np.unpackbits(self.bits, axis=3, count=self.channels, bitorder="little")
        return ones.transpose(1, 2, 3, 0) * np.float32(2) - 1


def packed_kernels(model: keras.Model) -> list[PackedKernel]:
    """Returns the binary layers of a model as bits, thresholds and scales.

    They are those of `prepared(model)`: dense and 1D binary layers are convolutions
    there, and gains, biases and batch norms around a binary layer are in its
    thresholds, scales and offsets, where they can be.

    Arguments:
        model: As for `prepared`.

    Returns:
        One for each name in `binary_layers(model)` that is used once, in their order.

    Raises:
        ConversionError: If the model cannot be converted, if a binary layer of it stays
            in float, or if it has none.
        VerificationError: If what is prepared computes something else than the model.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        first = nobn.deploy.packed_kernels(model)[0]
        first.bits.shape  # (16, 3, 3, 2): 16 bits take two bytes
        ```
    """
    layers = prepared(model).layers
    kernels = [_packed(layer) for layer in layers if type(layer) is BinaryConvolution]
    if not kernels:
        raise ConversionError(
            f"Model {model.name!r} has no binary layer: none with ±1 inputs and a ±1 "
            "kernel. nobn.models.summary lists the precision of its layers."
        )
    return kernels


def _packed(layer: BinaryConvolution) -> PackedKernel:
    kernel = layer.kernel.numpy()
    positive = kernel.transpose(3, 0, 1, 2) > 0
    channels, filters = kernel.shape[2:]

    def row(constant: Any, default: float) -> np.ndarray:
        value = default if constant is None else constant
        return np.array(np.broadcast_to(value, filters), np.float32)

    return PackedKernel(
        name=layer.name,
        bits=np.packbits(positive, axis=3, bitorder="little"),
        channels=channels,
        thresholds=_thresholds(layer.input_quantizer, channels),
        scales=row(layer.scale, 1.0),
        offsets=row(layer.offset, 0.0),
        activation=keras.activations.serialize(layer.last),
        strides=tuple(layer.strides),
        dilation_rate=tuple(layer.dilation_rate),
        padding=layer.padding,
        pad_values=float(layer.pad_values),
    )


def _thresholds(sign: Any, channels: int) -> np.ndarray | None:
    if sign is None:
        return None
    if type(sign) is SignAbove:  # of numbers above 0 the least
        return np.full(channels, np.nextafter(np.float32(0), np.float32(1)))
    if type(sign) is ShiftedSign and sign.shift is not None:
        return np.array(np.broadcast_to(-sign.shift, channels), np.float32)
    return np.zeros(channels, np.float32)
