r"""Batch norm at inference is affine.

\[ \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta
   = k x + (\beta - \mu k), \qquad k = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}, \]

per channel, since mean and variance are constants there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import _graph, _models
from ..layers import BatchKalmanNormalization
from ._rule import Edit, NotExact, affine_operation, rule


@rule
def batch_norm_to_affine(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Puts an affine operation in the place of a batch norm, in all its uses."""
    layer = call.layer
    if not _models.is_batch_norm(layer):
        return None
    if not is_over_channels(call):
        raise NotExact(f"{call.described} normalizes another axis than the last")
    scale, bias = batch_norm_affine(layer)
    operation = affine_operation(call.name, scale, bias, (layer,))
    return Edit(graph.with_row(call.name, [operation]))


def batch_norm_affine(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and bias of a batch norm at inference, (C,) each, in float64."""
    mean, variance = _float64(layer.moving_mean), _float64(layer.moving_variance)
    gamma, beta = layer.gamma, layer.beta
    scale = (1.0 if gamma is None else _float64(gamma)) / np.sqrt(
        variance + layer.epsilon
    )
    return scale, (0.0 if beta is None else _float64(beta)) - mean * scale


def _float64(variable: Any) -> np.ndarray:
    # Ghost batch norm keeps its weights in a shape that broadcasts.
    return variable.numpy().astype(np.float64).reshape(-1)


def is_over_channels(call: _graph.Call) -> bool:
    """Tells whether a batch norm has one mean per channel of the last axis."""
    layer = call.layer
    if isinstance(layer, BatchKalmanNormalization):
        return True
    rank = tf.nest.flatten(call.inputs)[0].shape.rank
    ghost = layer.virtual_batch_size is not None  # counts an axis more
    return list(layer.axis) == [rank if ghost else rank - 1]
