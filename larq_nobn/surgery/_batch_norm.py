"""What a batch norm computes at inference, and where that can be taken over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import Call, Graph, ModelError, is_batch_norm, layers_inside
from ..layers import BatchKalmanNormalization


def gain_and_bias(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """What a batch norm multiplies by and adds at inference, (C,) each, in float64."""
    mean, variance = _float64(layer.moving_mean), _float64(layer.moving_variance)
    gamma, beta = layer.gamma, layer.beta
    gain = (1.0 if gamma is None else _float64(gamma)) / np.sqrt(
        variance + layer.epsilon
    )
    return gain, (0.0 if beta is None else _float64(beta)) - mean * gain


def _float64(variable: Any) -> np.ndarray:
    # Ghost batch norm keeps its weights in a shape that broadcasts.
    return variable.numpy().astype(np.float64).reshape(-1)


def check_batch_norms(graph: Graph) -> None:
    """Refuses a model with batch norms that are no gain and bias per channel.

    Raises:
        ModelError: Naming all of them.
    """
    found = list(
        dict.fromkeys(line for call in graph.calls for line in _faults(graph, call))
    )
    if found:
        raise ModelError("; ".join(found) + ".")


def _faults(graph: Graph, call: Call) -> Iterator[str]:
    layer = call.layer
    label = f"Layer {call.described}"
    if not is_batch_norm(layer):
        for inner in layers_inside(layer):
            if is_batch_norm(inner):
                yield (
                    f"{label} holds the batch norm {inner.name!r}, which cannot be "
                    "reached from outside. Call batch norm as a layer of its own"
                )
        return
    if not _is_channels_last(call):
        yield (
            f"{label} normalizes axis {list(layer.axis)}, but only the last axis is "
            "supported, that of channels. Build the model with axis=-1 and "
            "data_format='channels_last'"
        )
    _, *state = tf.nest.flatten(call.outputs)
    if any(graph.is_output(moment) or graph.consumers(moment) for moment in state):
        yield (
            f"The state of layer {call.described} is used for "
            "more than other such layers. Leave it out of the model's outputs"
        )


def _is_channels_last(call: Call) -> bool:
    layer = call.layer
    if isinstance(layer, BatchKalmanNormalization):
        return True
    rank = tf.nest.flatten(call.inputs)[0].shape.rank
    ghost = layer.virtual_batch_size is not None  # counts an axis more
    return list(layer.axis) == [rank if ghost else rank - 1]
