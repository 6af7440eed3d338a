"""The moments that Batch Kalman Normalization carries along the features."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import keras
from ..layers import BatchKalmanNormalization, propagate_moments
from ..layers._channel_padding import ChannelPadding
from ._offset import START

_Moments = tuple[tf.Tensor, tf.Tensor]


_KEEP = (keras.layers.AveragePooling2D, keras.layers.Activation)


def _full() -> str:
    """The precision of moments, which under no policy is a half."""
    return keras.mixed_precision.global_policy().variable_dtype


def _merged(merge: keras.layers.Layer, terms: list[_Moments]) -> _Moments:
    """Merges means, and variances, as the features are merged."""

    def merged(moments: tuple[tf.Tensor, ...], moment: str) -> tf.Tensor:
        layer = type(merge)(name=f"{merge.name}_{moment}", dtype=_full())
        return layer(list(moments))

    means, variances = zip(*terms, strict=True)
    return merged(means, "mean"), merged(variances, "variance")


def _scaled(layer: keras.layers.Rescaling, moments: _Moments) -> _Moments:
    mean, variance = (
        keras.layers.Rescaling(factor, name=f"{layer.name}_{moment}", dtype=_full())
        for factor, moment in ((layer.scale, "mean"), (layer.scale**2, "variance"))
    )
    return mean(moments[0]), variance(moments[1])


def _padded(layer: ChannelPadding, moments: _Moments) -> _Moments:
    mean, variance = (
        ChannelPadding(
            layer.before, layer.after, name=f"{layer.name}_{moment}", dtype=_full()
        )
        for moment in ("mean", "variance")
    )
    return mean(moments[0]), variance(moments[1])


class PropagatedMoments:
    """Mean and variance per channel of the feature maps of one network.

    Those of a residual sum are the sums of its terms', those of concatenated maps are
    concatenated. An average of neighbors has theirs, as if they were equal, and so
    have clipped features, whose sign is that from before. Of a maximum nothing is
    known, and the next normalization starts without a prior.
    """

    def __init__(self) -> None:
        self._of: dict[Any, _Moments] = {}

    def apply(self, layer: keras.layers.Layer, inputs: Any) -> tf.Tensor:
        """Calls a layer, and carries on the moments of its inputs."""
        outputs = layer(inputs)
        terms = [self._of.get(x.ref()) for x in tf.nest.flatten(inputs)]
        known = [moments for moments in terms if moments is not None]
        if len(known) < len(terms):
            return outputs
        if isinstance(layer, (keras.layers.Add, keras.layers.Concatenate)):
            self._of[outputs.ref()] = _merged(layer, known)
        elif isinstance(layer, keras.layers.Rescaling):
            self._of[outputs.ref()] = _scaled(layer, known[0])
        elif isinstance(layer, ChannelPadding):
            self._of[outputs.ref()] = _padded(layer, known[0])
        elif isinstance(layer, _KEEP):
            self._of[outputs.ref()] = known[0]
        elif not isinstance(layer, keras.layers.MaxPool2D):
            self._of[outputs.ref()] = propagate_moments(layer, known[0])
        return outputs

    def normalize(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Batch Kalman Normalization, with the prior of `x` if that is known."""
        prior = self._of.get(x.ref())
        norm = BatchKalmanNormalization(beta_initializer=START, name=name)
        y, posterior = norm(x if prior is None else [x, prior])
        self._of[y.ref()] = propagate_moments(norm, posterior)
        return y
