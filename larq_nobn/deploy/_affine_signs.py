"""Gains in front of signs, which forget them."""

from __future__ import annotations

from typing import Any, NamedTuple

import larq as lq
import numpy as np

from .._keras import keras
from ..graph import Call, Graph, replace_layers, sign_of
from ._affine import AVERAGES, MAXIMA, affine_numbers, is_affine, is_once
from ._factor_rules import LARGEST
from ._inference import BinaryConvolution, ShiftedSign
from ._quantizers import SIGNS

_layers = keras.layers
_WITH_SIGNS = (
    BinaryConvolution,
    lq.layers.QuantConv2D,
    lq.layers.QuantDepthwiseConv2D,
    lq.layers.QuantDense,
)
# Less than this float32 does not keep apart from 0.
_TINY = np.finfo(np.float32).tiny
_SHAPES = (_layers.Flatten, _layers.Reshape, _layers.Cropping2D)


class _Reader(NamedTuple):
    """A sign that reads a map, perhaps through pools.

    Attributes:
        call: Of the sign as a layer, or of the layer that it is the input quantizer of.
        sign: The quantizer.
        maximum: Whether a maximum is taken between.
    """

    call: Call
    sign: Any
    maximum: bool


def drop_gains_before_signs(model: keras.Model) -> keras.Model:
    """Leaves g out where all that is read of g * x + o is its sign.

    With g > 0 that is the sign of x + o / g, a shift of the sign. With g < 0 it is the
    opposite sign, which a ±1 kernel behind can take into its input channels, unless
    ones pad its border or a maximum is taken between. With g = 0 nothing of x would be
    left: such layers stay. So do those that something else than a sign reads too: the
    shift would come on top of them.

    Arguments:
        model: A prepared model; its layers move into the new one, some of them with
            other weights.
    """
    graph = Graph(model)
    replaced: dict[str, keras.layers.Layer | None] = {}
    for call in graph.calls:
        if not is_affine(call, graph) or call.layer.gain is None:
            continue
        channels = call.inputs.shape[-1]
        gain, offset = (
            np.broadcast_to(number, channels) for number in affine_numbers(call.layer)
        )
        readers = _readers(call.outputs, channels, graph)
        if not readers or not _can_divide(gain, offset):
            continue
        kernels = [_kernel_behind(reader, graph) for reader in readers]
        if np.any(gain < 0) and None in kernels:
            continue
        replaced[call.name] = None
        for reader, conv in zip(readers, kernels, strict=True):
            copies = reader.call.inputs.shape[-1] // channels
            numbers = np.tile(gain, copies), np.tile(offset, copies)
            if sign_of(reader.call.layer) is None:
                new = _shifted(reader.sign, *numbers, reader.sign.name)
                reader.call.layer.input_quantizer = new
            else:
                name = reader.call.name
                replaced[name] = _shifted(reader.sign, *numbers, name)
            if conv is not None:
                signs = np.sign(numbers[0])[:, None]
                conv.kernel.assign(conv.kernel * signs.astype("f4"))
    if not replaced:
        return model
    return replace_layers(model, lambda call: replaced.get(call.name, call.layer))


def _readers(tensor: Any, channels: int, graph: Graph) -> list[_Reader] | None:
    """The signs that read a tensor; None if anything else does."""
    found: list[_Reader] = []
    if graph.is_output(tensor):
        return None
    for call in graph.consumers(tensor):
        layer = call.layer
        sign = getattr(layer, "input_quantizer", None)
        sign = sign if type(layer) in _WITH_SIGNS else sign_of(layer)
        if not is_once(call, graph):
            return None
        if type(sign) in SIGNS:
            found.append(_Reader(call, sign, False))
            continue
        behind = _readers(call.outputs, channels, graph) if _passes(call) else None
        if behind is None or call.outputs.shape[-1] % channels:
            return None
        maximum = type(layer) in MAXIMA
        found += [r._replace(maximum=r.maximum or maximum) for r in behind]
    return found


def _passes(call: Call) -> bool:
    last = getattr(call.layer, "data_format", "channels_last") == "channels_last"
    return last and type(call.layer) in (*AVERAGES, *MAXIMA, *_SHAPES)


def _kernel_behind(reader: _Reader, graph: Graph) -> BinaryConvolution | None:
    """The one kernel that meets a sign, if it can take over a change of it."""
    call: Call | None = reader.call
    if sign_of(reader.call.layer) is not None:
        call = graph.sole_consumer(reader.call.outputs)
    if call is None or type(call.layer) is not BinaryConvolution:
        return None
    apart = call is reader.call or call.layer.input_quantizer is None
    fits = apart and not reader.maximum and is_once(call, graph)
    return call.layer if fits and call.layer.border() in (None, 0.0) else None


def _can_divide(gain: np.ndarray, offset: np.ndarray) -> bool:
    """Whether no shift leaves the range of float32, as that of a gain of 0 would."""
    return bool(np.all(np.abs(gain) * LARGEST > np.maximum(np.abs(offset), 1)))


def _shifted(
    given: Any, gain: np.ndarray, offset: np.ndarray, name: str
) -> ShiftedSign:
    """A given sign of gain * x + offset, or for a negative gain its opposite."""
    if getattr(given, "shift", None) is not None:
        offset = offset + given.shift.numpy()
    shift = (offset / gain).astype(np.float32)
    # As the sign of 0 is +1, that of its opposite is -1: of one float less it is.
    less = np.minimum(np.nextafter(shift, np.float32(-np.inf)), shift - _TINY)
    shift = np.where(gain < 0, less, shift)
    return ShiftedSign(shift if np.any(shift) else None, gain, name=name)
