"""Which maps of a prepared model are of whole numbers of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....graph import (
    Call,
    Steps,
    sign_of,
    sign_steps,
    steps_behind,
    steps_behind_activation,
    steps_behind_kernel,
)
from .._inference import BinaryConvolution, PlainAffine
from .._quantizers import SIGNS
from ..rewrites import Channels, ConstantLess, PlusLast


def steps_behind_prepared(call: Call, taken: Sequence[Steps | None]) -> Steps | None:
    """What a call makes of maps of known steps; None if that is not known."""
    layer, kind = call.layer, type(call.layer)
    if type(sign_of(layer)) in SIGNS:
        return sign_steps(call.first_output.shape[-1])
    if kind is BinaryConvolution:
        return _behind_binary(layer, taken[0])
    if kind not in (PlainAffine, Channels, ConstantLess, PlusLast):
        return steps_behind(call, taken)
    steps = taken[0]
    if steps is None:
        return None
    if kind is PlainAffine:
        return _scaled(steps, layer.gain, layer.offset)
    if kind is Channels:
        return steps._replace(step=steps.step[layer.channels])
    if kind is ConstantLess:
        return steps.plus(layer.constant)
    return steps._replace(step=steps.step[:-1]).bounded(2 * steps.most)


def steps_of_sums(layer: BinaryConvolution, taken: Steps | None) -> Steps | None:
    """The steps of what its kernel makes of a map, before scale and offset."""
    kernel = layer.kernel.numpy()
    if layer.input_quantizer is not None:
        taken = sign_steps(kernel.shape[2])
    sums = kernel.reshape(-1, kernel.shape[-1])
    return steps_behind_kernel(sums, taken, layer.border() or 0.0)


def _behind_binary(layer: BinaryConvolution, taken: Steps | None) -> Steps | None:
    steps = steps_of_sums(layer, taken)
    if steps is not None:
        steps = _scaled(steps, layer.scale, layer.offset)
    return steps_behind_activation(layer.last, steps)


def _scaled(steps: Steps, gain: Any, offset: Any) -> Steps | None:
    scaled = steps if gain is None else steps.times(gain)
    return scaled if scaled is None or offset is None else scaled.plus(offset)
