"""The binary layers of a model as bits, for kernels of one's own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from .._keras import keras
from ..graph import _signs
from ..graph._thresholds import threshold_of_affine
from ._binary_layers import check_float
from ._errors import ConversionError, conversion_errors
from ._prepared import few_examples, lowered_model, opened_model
from .operations._binary import sign_before
from .operations._kinds import Affine, Kernel, Other, Pad, Rest, Value
from .operations._program import Program
from .trace._names import layer_name, layers_by_name, layers_of
from .verify._lowered import verify_operations


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


@conversion_errors()
def packed_kernels(model: keras.Model) -> list[PackedKernel]:
    """Returns the binary layers of a model as bits, thresholds and scales.

    They are those of the file: dense and 1D binary layers are convolutions
    there, and gains, biases and batch norms around a binary layer are in its
    thresholds, scales and offsets, where they can be.

    Arguments:
        model: As for `prepared`.

    Returns:
        One for each name in `binary_layers(model)`, in their order.

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
    whole, given, _ = opened_model(model, None)
    stages, examples = lowered_model(whole, given), few_examples(given)
    check_float(stages, "lce", False, lambda: examples)
    verify_operations(whole, stages, examples, ending="")
    layers = layers_by_name(stages.traced.model)
    nodes: dict[str, list[Kernel]] = defaultdict(list)
    for node in stages.spelled.nodes:
        if isinstance(node, Kernel) and node.binary:
            nodes[layer_name(node.name)].append(node)
    kernels = []
    for name, layer in zip(
        map(layer_name, stages.binary), layers_of(stages.binary, layers), strict=True
    ):
        # One of several that are equal is all that the file has.
        first, *others = nodes[name]
        nodes[name] = others or [first]
        kernels.append(_packed(stages.spelled, first, name, layers[layer]))
    return kernels


def _packed(
    program: Program, node: Kernel, name: str, layer: keras.layers.Layer
) -> PackedKernel:
    if getattr(layer, "padding", "") == "causal":
        raise ConversionError(
            f"Layer {name!r} has padding='causal', which a PackedKernel does not "
            "contain. Use padding='valid' after a ZeroPadding1D."
        )
    kernel, scales, offsets = node.weights, node.scale, node.bias
    padding, border, y = node.padding.lower(), 0.0, node.y
    pad, rest = program.maker(node.x, Pad), program.reader(node.y, Rest)
    if pad is not None:
        padding, border = "same", pad.value
    last = None if rest is None else program.reader(rest.y, Affine)
    if rest and last:  # less what ones in its place add
        kernel, border, y = -kernel, rest.border, last.y
        scales, offsets = last.k, last.b
    activation, after = _activation(program, node, y, layer)
    if after is not None:
        scales, offsets = after.k, after.b
    thresholds, opposite = _thresholds(program, node, layer)
    if opposite:
        kernel, border = -kernel, -border
    return PackedKernel(
        name=name,
        bits=np.packbits(kernel.transpose(3, 0, 1, 2) > 0, axis=3, bitorder="little"),
        channels=kernel.shape[2],
        thresholds=thresholds,
        scales=scales.astype(np.float32),
        offsets=offsets.astype(np.float32),
        activation=activation,
        strides=(node.strides[1], node.strides[2]),
        dilation_rate=(node.dilations[1], node.dilations[2]),
        padding=padding,
        pad_values=border,
    )


def _activation(
    program: Program, node: Kernel, value: Value, layer: keras.layers.Layer
) -> tuple[str, Affine | None]:
    """The activation at the end of a layer, and the scale that a ReLU has after it."""
    readers = program.readers(value)
    while len(readers) == 1 and readers[0].is_reshape:
        readers = program.readers(readers[0].y)
    name = layer_name(node.name)
    others = (reader for reader in readers if isinstance(reader, Other))
    own = next((x for x in others if layer_name(x.name) == name), None)
    if own is None:
        return "linear", None
    after = program.reader(own.y, Affine)
    scaled = after is not None and after.name == f"{node.name}_scale"
    return keras.activations.serialize(layer.activation), after if scaled else None


def _thresholds(
    program: Program, node: Kernel, layer: keras.layers.Layer
) -> tuple[np.ndarray | None, bool]:
    """Those of the sign that a layer takes, and whether it is of the opposite."""
    if not _signs.is_binary(getattr(layer, "input_quantizer", None)):
        return None, False
    sign = sign_before(program, node.x)
    assert sign is not None  # or it were no binary kernel
    channels, shift = node.weights.shape[2], sign.shift.astype(np.float32)
    side = program.maker(sign.x, Affine)
    falls = side is not None and np.all(side.k < 0)
    if side and falls and layer_name(side.name) == layer_name(sign.name):
        at = threshold_of_affine(side.k, side.b + sign.shift)
        return np.tile(at.edge(), channels // len(shift)), True
    return -np.tile(shift, channels // len(shift)), False
