"""The moments that networks with Batch Kalman Normalization propagate."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import keras
from ..layers import BatchKalmanNormalization, propagate_moments
from ..layers._channel_padding import ChannelPadding
from ._normalizations import START

_Moments = tuple[tf.Tensor, tf.Tensor]
_KEEP = (keras.layers.AveragePooling2D, keras.layers.Activation)
_MERGE = (keras.layers.Add, keras.layers.Concatenate)


def _carried(layer: keras.layers.Layer, terms: list[_Moments]) -> _Moments:
    """Applies copies of a layer to means and to variances, in full precision."""

    def moment(kind: str, moments: tuple[tf.Tensor, ...]) -> tf.Tensor:
        full = keras.mixed_precision.global_policy().variable_dtype
        name = f"{layer.name}_{kind}"
        config = {**layer.get_config(), "name": name, "dtype": full}
        if kind == "variance" and isinstance(layer, keras.layers.Rescaling):
            config |= {"scale": layer.scale**2, "offset": 0.0}
        merged = isinstance(layer, _MERGE)
        return type(layer).from_config(config)(list(moments) if merged else moments[0])

    means, variances = zip(*terms, strict=True)
    return moment("mean", means), moment("variance", variances)


class PropagatedMoments:
    """Mean and variance per channel of the feature maps of one network.

    Moments of a residual sum are added, those of concatenated maps concatenated. An
    average pool keeps the moments, as if neighboring values were equal; so does
    clipping, which changes no sign. After a max pool the moments are unknown, and the
    next normalization has no prior.
    """

    def __init__(self) -> None:
        self._of: dict[Any, _Moments] = {}

    def apply(self, layer: keras.layers.Layer, inputs: Any) -> tf.Tensor:
        """Calls a layer, and propagates the moments of its inputs."""
        outputs = layer(inputs)
        terms = [self._of.get(x.ref()) for x in tf.nest.flatten(inputs)]
        known = [moments for moments in terms if moments is not None]
        if len(known) < len(terms):
            return outputs
        if isinstance(layer, (*_MERGE, keras.layers.Rescaling, ChannelPadding)):
            self._of[outputs.ref()] = _carried(layer, known)
        elif isinstance(layer, _KEEP):
            self._of[outputs.ref()] = known[0]
        elif not isinstance(layer, keras.layers.MaxPool2D):
            self._of[outputs.ref()] = propagate_moments(layer, known[0])
        return outputs

    def normalize(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Adds Batch Kalman Normalization; the prior is the moments of `x` if known."""
        prior = self._of.get(x.ref())
        norm = BatchKalmanNormalization(beta_initializer=START, name=name)
        y, posterior = norm(x if prior is None else [x, prior])
        self._of[y.ref()] = propagate_moments(norm, posterior)
        return y
