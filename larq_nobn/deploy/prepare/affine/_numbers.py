"""What every layer that is a gain and an offset per channel at inference becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...._keras import keras
from ....graph import Call, Graph
from ....graph._training import training_argument
from ....layers import (
    BatchKalmanNormalization,
    ChannelAffine,
    IndependentComponent,
    SkipInit,
)
from .._inference import PlainAffine

Numbers = tuple[Any, Any]
_layers = keras.layers


def plain_affine(call: Call) -> PlainAffine | None:
    """The affine layer that a call amounts to; None if it is something else."""
    # Subclasses may compute more; those of this package are listed.
    found = _NUMBERS.get(type(call.layer))
    numbers = None if found is None else found(call)
    return None if numbers is None else PlainAffine(*numbers, name=call.name)


def is_affine(call: Call, graph: Graph) -> bool:
    """Whether a call is the only one of a gain and an offset."""
    return type(call.layer) is PlainAffine and is_once(call, graph)


def is_once(call: Call, graph: Graph) -> bool:
    """Whether the layer of a call has no other, whose weights it would share."""
    return len(graph.uses(call.name)) == 1


def affine_numbers(layer: PlainAffine) -> Numbers:
    """Its gain and its offset, in float64, of rank 1 or 0 each."""
    given = 1.0 if layer.gain is None else layer.gain
    added = 0.0 if layer.offset is None else layer.offset
    gain, offset = (
        exact if np.all(exact.astype(np.float32) == now) else now.astype(np.float64)
        for exact, now in zip(
            layer.exact, (np.asarray(given), np.asarray(added)), strict=True
        )
    )
    return gain, offset


def _batch_norm(call: Call) -> Numbers | None:
    layer = call.layer
    # Virtual batches, and other axes, have statistics of another shape.
    last = list(layer.axis) == [call.inputs.shape.rank - 1]
    if not last or training_argument(call):
        return None
    return _normalized(
        layer,
        layer.gamma if layer.scale else 1.0,
        layer.beta if layer.center else 0.0,
    )


def _kalman(call: Call) -> Numbers:
    return _normalized(call.layer, call.layer.gamma, call.layer.beta)


def _normalized(layer: Any, gamma: Any, beta: Any) -> Numbers:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta."""
    mean, variance, gamma, beta = (
        np.asarray(value, np.float64)
        for value in (layer.moving_mean, layer.moving_variance, gamma, beta)
    )
    gain = gamma / np.sqrt(variance + layer.epsilon)
    return gain, beta - gain * mean


def _channel_affine(call: Call) -> Numbers:
    return call.layer.gamma.numpy(), call.layer.beta.numpy()


def _skip_init(call: Call) -> Numbers:
    return call.layer.gain.numpy(), 0.0


def _rescaling(call: Call) -> Numbers | None:
    numbers = np.asarray(call.layer.scale), np.asarray(call.layer.offset)
    per_channel = all(x.shape in ((), call.inputs.shape[-1:]) for x in numbers)
    # Of whole numbers, such as pixels, a Rescaling also makes floats.
    return numbers if per_channel and call.inputs.dtype.is_floating else None


_NUMBERS: dict[type, Callable[[Call], Numbers | None]] = {
    _layers.BatchNormalization: _batch_norm,
    IndependentComponent: _batch_norm,
    BatchKalmanNormalization: _kalman,
    ChannelAffine: _channel_affine,
    SkipInit: _skip_init,
    _layers.Rescaling: _rescaling,
}
