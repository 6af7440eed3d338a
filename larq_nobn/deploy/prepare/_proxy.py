"""What Proxy Norm is at inference, where its proxy is made of constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call
from ...layers import ProxyNormalization
from ...layers._normalized_activation import FLOOR
from ...layers._proxy_moments import NEGATIVE_SLOPES
from ._inference import PlainAffine, PlainGroupNormalization


def plain_proxy_norm(call: Call) -> Callable[..., Any] | None:
    """Proxy Norm as layers in a row: rate * (activation(group norm) - center).

    A rectifier lets the positive rate pass, and the group norm holds it.
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
