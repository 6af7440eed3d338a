"""What every layer that is a gain and an offset per channel at inference becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._keras import keras
from ..graph import Call
from ..layers import (
    BatchKalmanNormalization,
    ChannelAffine,
    IndependentComponent,
    SkipInit,
)
from ._inference import PlainAffine

Numbers = tuple[Any, Any]


def plain_affine(call: Call) -> PlainAffine | None:
    """The affine layer that a call amounts to; None if it is something else."""
    # Subclasses may compute more; those of this package are listed.
    found = _NUMBERS.get(type(call.layer))
    numbers = None if found is None else found(call)
    return None if numbers is None else PlainAffine(*numbers, name=call.name)


def _batch_norm(call: Call) -> Numbers | None:
    layer = call.layer
    # Virtual batches, and other axes, have statistics of another shape.
    last = list(layer.axis) == [call.inputs.shape.rank - 1]
    if not last or call.node.call_kwargs.get("training"):
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
    keras.layers.BatchNormalization: _batch_norm,
    IndependentComponent: _batch_norm,
    BatchKalmanNormalization: _kalman,
    ChannelAffine: _channel_affine,
    SkipInit: _skip_init,
    keras.layers.Rescaling: _rescaling,
}
