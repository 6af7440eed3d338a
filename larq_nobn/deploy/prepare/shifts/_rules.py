"""What becomes of per-channel shifts at each kind of layer of a prepared model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ...._keras import keras
from ....graph import Call, is_channels_last, passage, sign_of, weights_of_sum
from ....layers import ThresholdedLinearUnit
from ....models._channel_padding import ChannelPadding
from .._inference import (
    BinaryConvolution,
    PlainAffine,
    PlainGroupNormalization,
    PlainRPReLU,
    ShiftedReLU,
    ShiftedSign,
)
from .._kinds import REAL_KERNELS
from . import _weights as fit
from ._forms import Shift, Unknowns, constant

_layers = keras.layers

# Changes a layer's weights for what it takes and what it gives.
Fit = Callable[[np.ndarray, np.ndarray], None]


class Want(NamedTuple):
    """A shift, and the value at which a layer has nothing left to add."""

    shift: Shift
    value: np.ndarray


class Rule(NamedTuple):
    """How a layer that makes y of x can be made to make y - t of x - s.

    Attributes:
        given: t, in terms of s or free to choose.
        wants: When the layer needs no addition.
        adapt: Changes the layer's weights for s and t; None if nothing needs to.
    """

    given: Shift
    wants: Sequence[Want] = ()
    adapt: Fit | None = None


def rule_of(call: Call, taken: list[Shift], unknowns: Unknowns) -> Rule:
    """The rule of a call of which each input is kept as x - s, s as in `taken`."""
    if tf.nest.is_nested(call.outputs):  # several
        return fixed(call, taken)
    if len(taken) > 1:
        return _joining(call, taken, unknowns) or fixed(call, taken)
    shift, layer, kind = taken[0], call.layer, type(call.layer)
    if passage(call).shift:
        return Rule(shift * (call.outputs.shape[-1] // call.inputs.shape[-1]))
    if kind is ChannelPadding:
        before, after = (constant(np.zeros(n)) for n in (layer.before, layer.after))
        return Rule(before + shift + after)
    if kind is ThresholdedLinearUnit:
        return Rule(shift, adapt=partial(fit.fit_threshold, layer))
    if type(sign_of(layer)) is ShiftedSign:
        return _sign(call, shift, unknowns)
    finder = _FINDERS.get(kind)
    return finder(call, shift, unknowns) if finder else fixed(call, taken)


def fixed(call: Call, taken: Sequence[Shift]) -> Rule:
    """Of a layer that is not known here: s and t are 0."""
    wants = [Want(shift, np.zeros(())) for shift in taken]
    return Rule(zeros(call.first_output), wants)


def zeros(tensor: Any) -> Shift:
    """The shift of a tensor that stays as it is."""
    return constant(np.zeros(_channels(tensor)))


def _channels(tensor: Any) -> int:
    # A tensor without axes, or of an open one, is never anything but fixed.
    return (tensor.shape[-1] if tensor.shape.rank else 1) or 1


def _joining(call: Call, taken: list[Shift], unknowns: Unknowns) -> Rule | None:
    layer = call.layer
    if type(layer) is _layers.Concatenate:
        last = layer.axis in (-1, call.outputs.shape.rank - 1)
        return Rule(sum(taken, ())) if last else None
    weights = weights_of_sum(call)
    channels = {tensor.shape[-1] for tensor in call.node.keras_inputs}
    if weights is None or len(channels) > 1:
        return None
    rows = np.broadcast_to(weights[:, None], (len(taken), *channels))
    return Rule(unknowns.weighted_sum(taken, rows))


def _sign(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    sign = sign_of(call.layer)
    wants = [_at_sign(sign, taken, call)]
    return Rule(zeros(call.outputs), wants, partial(fit.fit_sign, sign))


def _relu(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    # Its addition and it are one operation.
    return Rule(zeros(call.outputs), adapt=partial(fit.fit_sign, call.layer))


def _rprelu(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    layer, channels = call.layer, _channels(call.inputs)
    given = unknowns.new(channels)
    wants = [
        Want(taken, -fit.values(layer.shift_in, channels)),
        Want(given, fit.values(layer.shift_out, channels)),
    ]
    return Rule(given, wants, partial(fit.fit_rprelu, layer))


def _affine(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    layer, channels = call.layer, _channels(call.inputs)
    gain = fit.gains(layer.gain, channels)
    offset = fit.values(layer.offset, channels)
    through = unknowns.weighted_sum([taken], gain[None])
    if not np.any(offset):
        return Rule(through)
    given = unknowns.new(channels)
    rows = np.stack([np.ones(channels), -np.ones(channels)])
    kept = unknowns.weighted_sum([given, through], rows)
    return Rule(given, [Want(kept, offset)], partial(fit.fit_affine, layer))


def _group_norm(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    layer, channels = call.layer, _channels(call.inputs)
    given = unknowns.new(channels)
    wants = [
        Want(taken, np.zeros(())),
        Want(given, fit.values(layer.beta, channels)),
    ]
    return Rule(given, wants, partial(fit.fit_group_norm, layer))


def _binary_convolution(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    layer, channels = call.layer, _channels(call.outputs)
    adapt = partial(fit.fit_binary_convolution, layer)
    wants = [_at_sign(layer.input_quantizer, taken, call)]
    if layer.last is not keras.activations.linear:
        return Rule(zeros(call.outputs), wants, adapt)
    return Rule(unknowns.new(channels), wants, adapt)


def _real_kernel(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    layer, channels = call.layer, _channels(call.outputs)
    if not is_channels_last(layer):
        return fixed(call, [taken])
    sign = getattr(layer, "input_quantizer", None)
    # At a border that is padded, less than all of the kernel meets the shift.
    size = getattr(layer, "kernel_size", (1,))
    whole = getattr(layer, "padding", "valid") == "valid" or set(size) == {1}
    grouped = getattr(layer, "groups", 1) > 1
    free = sign is None and whole and not grouped
    wants = [] if free else [_at_sign(sign, taken, call)]
    if layer.activation is not keras.activations.linear:
        given = zeros(call.outputs)
    else:
        given = unknowns.new(channels)
    return Rule(given, wants, partial(fit.fit_kernel, layer))


def _at_sign(sign: Any, taken: Shift, call: Call) -> Want:
    if type(sign) is not ShiftedSign:
        return Want(taken, np.zeros(()))
    return Want(taken, -fit.values(sign.shift, _channels(call.inputs)))


_FINDERS: dict[type, Callable[[Call, Shift, Unknowns], Rule]] = {
    ShiftedReLU: _relu,
    PlainRPReLU: _rprelu,
    PlainAffine: _affine,
    PlainGroupNormalization: _group_norm,
    BinaryConvolution: _binary_convolution,
    **dict.fromkeys(REAL_KERNELS, _real_kernel),
}
