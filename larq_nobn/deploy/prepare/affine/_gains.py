"""Gains that the layers behind them can hold, or forget."""

from __future__ import annotations

import numpy as np

from ...._keras import keras
from ....graph import Graph, replace_layers, sign_of, steps_of, threshold_of_affine
from .._inference import BinaryConvolution, PlainAffine, ShiftedSign
from ..factors import LARGEST
from ._numbers import affine_numbers, is_affine, is_once
from ._readers import Reader, readers_of
from ._steps import steps_behind_prepared


def drop_gains(model: keras.Model) -> keras.Model:
    """Leaves g out of g * x + o where all that reads it can hold it, or forgets it.

    With g > 0 it is g * (x + o / g): a sign needs the sum alone, and rectifiers and
    pools pass g on to the kernels behind. Where it is read by signs alone, or by other
    gains and offsets, o / g joins these, and nothing is left of the layer.

    With g < 0 signs turn into their opposites, which a ±1 kernel behind can take into
    its input channels, unless ones pad its border or a maximum is taken between. With
    g = 0 nothing of x would be left: such layers stay. So do those that something else
    reads too: the shift of the signs would come on top of them.

    Arguments:
        model: A prepared model; its layers move into the new one, some of them with
            other weights.
    """
    graph = Graph(model)
    steps = steps_of(graph, steps_behind_prepared)
    replaced: dict[str, keras.layers.Layer | None] = {}
    changed = False
    for call in graph.calls:
        if not is_affine(call, graph) or call.layer.gain is None:
            continue
        gain, offset = (
            np.broadcast_to(number, call.inputs.shape[-1:])
            for number in affine_numbers(call.layer)
        )
        before = steps.get(id(call.first_input))
        readers = readers_of(call.outputs, len(gain), graph, before)
        if not readers or not _can_divide(gain, offset):
            continue
        turned = [_turned_by(reader, graph) for reader in readers]
        whole = all(r.shifts and _takes_offset(r) for r in readers)
        if np.any(gain < 0) and not (whole and all(map(_takes_any, readers, turned))):
            continue
        call.layer.set(1.0, 0.0 if whole else offset / gain)
        if call.layer.offset is None:
            replaced[call.name] = None
        for reader, conv in zip(readers, turned, strict=True):
            copies = reader.call.inputs.shape[-1] // len(gain)
            gains = np.tile(gain, copies)
            shifts = np.tile(offset, copies) if whole else np.zeros(len(gains))
            if reader.sign is None:
                _multiply(reader.call.layer, gains, shifts)
            elif sign_of(reader.call.layer) is None:
                new = _shifted(reader, gains, shifts, reader.sign.name)
                reader.call.layer.input_quantizer = new
            else:
                name = reader.call.name
                replaced[name] = _shifted(reader, gains, shifts, name)
            if conv is not None:
                conv.kernel.assign(conv.kernel * np.sign(gains)[:, None].astype("f4"))
        changed = True
    if not changed:
        return model
    return replace_layers(model, lambda call: replaced.get(call.name, call.layer))


def _can_divide(gain: np.ndarray, offset: np.ndarray) -> bool:
    """Whether no shift leaves the range of float32, as that of a gain of 0 would."""
    return bool(np.all(np.abs(gain) * LARGEST > np.maximum(np.abs(offset), 1)))


def _takes_offset(reader: Reader) -> bool:
    return reader.sign is not None or type(reader.call.layer) is PlainAffine


def _takes_any(reader: Reader, turned: BinaryConvolution | None) -> bool:
    """Whether it takes negative gains too."""
    if getattr(reader.sign, "gain", None) is not None:
        return False  # of 0 and 1, where sums that are just 0 are common
    return not reader.rising and (reader.sign is None or turned is not None)


def _turned_by(reader: Reader, graph: Graph) -> BinaryConvolution | None:
    """The one kernel that meets a sign, if it can take over a change of it."""
    call = reader.call
    if sign_of(call.layer) is not None:
        behind = graph.sole_consumer(call.outputs)
        if behind is None or getattr(behind.layer, "input_quantizer", None) is not None:
            return None
        call = behind
    if type(call.layer) is not BinaryConvolution:
        return None
    fits = is_once(call, graph) and call.layer.border() in (None, 0.0)
    return call.layer if fits else None


def _multiply(layer: keras.layers.Layer, gains: np.ndarray, shifts: np.ndarray) -> None:
    """Makes a layer compute of x what it computed of gains * x + shifts."""
    if type(layer) is PlainAffine:
        gain, offset = affine_numbers(layer)
        layer.set(gain * gains, gain * shifts + offset)
        return
    kernel = getattr(layer, "depthwise_kernel", None)
    kernel = layer.kernel if kernel is None else kernel
    # Of whatever kind, its last axes are the channels that it takes and that it makes.
    kernel.assign(kernel * gains[:, None].astype("f4"))


def _shifted(
    reader: Reader, gain: np.ndarray, offset: np.ndarray, name: str
) -> ShiftedSign:
    """A reader's sign of gain * x + offset, or for a negative gain its opposite."""
    given = reader.sign
    if getattr(given, "shift", None) is not None:
        offset = offset + given.shift.numpy()
    shift = threshold_of_affine(gain, offset, reader.steps).shift()
    before = getattr(given, "gain", None)
    turned = gain if before is None else gain * before
    return ShiftedSign(shift if np.any(shift) else None, turned, name=name)
