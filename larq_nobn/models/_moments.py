"""The moments that Batch Kalman Normalization carries along the features."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import keras
from ..layers import BatchKalmanNormalization, propagate_moments

_Moments = tuple[tf.Tensor, tf.Tensor]


def _sum(name: str, terms: list[_Moments]) -> _Moments:
    means, variances = zip(*terms, strict=True)
    return (
        keras.layers.Add(name=f"{name}_mean")(list(means)),
        keras.layers.Add(name=f"{name}_variance")(list(variances)),
    )


class Moments:
    """Mean and variance per channel of the feature maps of one network.

    Those of a residual sum are the sums of its terms'. An average of neighbours has
    theirs, as if they were equal. Of a maximum nothing is known, and the next
    normalization begins without a prior.
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
        if isinstance(layer, keras.layers.Add):
            self._of[outputs.ref()] = _sum(layer.name, known)
        elif isinstance(layer, keras.layers.AveragePooling2D):
            self._of[outputs.ref()] = known[0]
        elif not isinstance(layer, keras.layers.MaxPool2D):
            self._of[outputs.ref()] = propagate_moments(layer, known[0])
        return outputs

    def normalize(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Batch Kalman Normalization, with the prior of `x` if that is known."""
        prior = self._of.get(x.ref())
        norm = BatchKalmanNormalization(name=name)
        y, posterior = norm(x if prior is None else [x, prior])
        self._of[y.ref()] = propagate_moments(norm, posterior)
        return y
