"""Layers whose training form is another: what each of them is at inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call
from ...graph._training import training_argument
from ...layers import (
    BatchKalmanNormalization,
    ChannelAffine,
    IndependentComponent,
    ProxyNormalization,
    SkipInit,
    SymmetricHead,
)
from ...layers._normalized_activation import FLOOR
from ...layers._proxy_moments import NEGATIVE_SLOPES
from ...rewrites import is_over_channels, scale_and_bias
from ._inference import PlainAffine, PlainGroupNormalization

Numbers = tuple[Any, Any]


def plain_affine(call: Call) -> PlainAffine | None:
    """The affine layer that a call amounts to; None if it is something else."""
    # Subclasses may compute more; those of this package are listed.
    found = _NUMBERS.get(type(call.layer))
    numbers = None if found is None else found(call)
    return None if numbers is None else PlainAffine(*numbers, name=call.name)


def _batch_norm(call: Call) -> Numbers | None:
    if not is_over_channels(call) or training_argument(call):
        return None
    return scale_and_bias(call.layer)


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
    BatchKalmanNormalization: _batch_norm,
    ChannelAffine: _channel_affine,
    SkipInit: _skip_init,
    keras.layers.Rescaling: _rescaling,
}


def plain_head(call: Call) -> keras.layers.Dense | None:
    """The dense layer whose kernel is made of the class vectors."""
    layer = call.layer
    if type(layer) is not SymmetricHead:
        return None
    vectors = keras.initializers.Constant(layer.class_vectors().numpy())
    return keras.layers.Dense(
        layer.classes, use_bias=False, kernel_initializer=vectors, name=call.name
    )


def plain_proxy_norm(call: Call) -> Callable[..., Any] | None:
    """Proxy Norm as layers in a row: rate * (activation(group norm) - center).

    A ReLU lets the positive rate pass, and the group norm keeps it.
    """
    layer = call.layer
    if type(layer) is not ProxyNormalization:
        return None
    gamma, beta = map(tf.convert_to_tensor, (layer.gamma, layer.beta))
    moments = layer._proxy_moments(gamma, beta)
    center, variance = (np.asarray(moment, np.float64) for moment in moments)
    rate = 1 / np.sqrt(variance + layer.epsilon)
    rectifies = layer.get_config()["activation"] in list(NEGATIVE_SLOPES)
    inner, outer = (rate, 1.0) if rectifies else (1.0, rate)
    # Named as parts of the layer, so that what is found in a file names it.
    norm = PlainGroupNormalization(
        layer.groups, FLOOR, gamma * inner, beta * inner, name=f"{call.name}/norm"
    )
    activation = keras.layers.Activation(
        layer.activation, name=f"{call.name}/activation"
    )
    affine = PlainAffine(outer, -center * rate, name=call.name)
    if layer.activation is keras.activations.linear:
        return lambda x: affine(norm(x))
    return lambda x: affine(activation(norm(x)))
