"""Computes the affine function of batch norms at inference, and checks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import _errors, _graph, _models, _operation
from ..layers import BatchKalmanNormalization, ChannelAffine


def batch_norm_affine(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and bias of a batch norm at inference, (C,) each, in float64."""
    mean, variance = float64(layer.moving_mean), float64(layer.moving_variance)
    gamma, beta = layer.gamma, layer.beta
    scale = (1.0 if gamma is None else float64(gamma)) / np.sqrt(
        variance + layer.epsilon
    )
    return scale, (0.0 if beta is None else float64(beta)) - mean * scale


def float64(variable: Any) -> np.ndarray:
    """Returns a weight per channel in float64, (C,)."""
    # The weights of ghost batch norm have a shape that broadcasts.
    return variable.numpy().astype(np.float64).reshape(-1)


def channel_affine(
    norm: keras.layers.Layer, name: str, gamma: Any = None, beta: Any = None
) -> _operation.Operation:
    """Returns a `ChannelAffine` that replaces a norm, with the weights if given."""
    arguments = {"dtype": norm.dtype_policy.name, "trainable": norm.trainable}
    values = {} if gamma is None else {"gamma": gamma, "beta": beta}
    return _operation.Operation(name, ChannelAffine, None, arguments, values)


def check_batch_norms(graph: _graph.Graph) -> None:
    """Rejects a model with batch norms that are not a scale and a bias per channel.

    Raises:
        ModelError: Naming all of them.
    """
    faults = [line for call in graph.calls for line in _faults(graph, call)]
    if faults:
        raise _errors.ModelError("; ".join(dict.fromkeys(faults)) + ".")


def check_no_nan(graph: _graph.Graph) -> None:
    """Rejects a model with NaN in a batch norm.

    Raises:
        ModelError: Naming the first such weight.
    """
    for call in graph.calls:
        weights = call.layer.weights if _models.is_batch_norm(call.layer) else ()
        for weight in weights:
            if np.isnan(weight.numpy()).any():
                raise _errors.ModelError(
                    f"Weight {weight.name!r} of layer {call.described} contains NaN: "
                    "training diverged. Fold an earlier state of the model."
                )


def _faults(graph: _graph.Graph, call: _graph.Call) -> Iterator[str]:
    layer = call.layer
    label = f"Layer {call.described}"
    if not _models.is_batch_norm(layer):
        for inner in layer.submodules:
            if _models.is_batch_norm(inner):
                yield (
                    f"{label} contains the batch norm {inner.name!r}, which cannot be "
                    "reached from outside. Call batch norm as a layer of its own"
                )
        return
    if not isinstance(layer, BatchKalmanNormalization):
        ghost = layer.virtual_batch_size is not None  # its axes count one axis more
        if list(layer.axis) != [call.first_input.shape.rank - (not ghost)]:
            yield (
                f"{label} normalizes axis {list(layer.axis)}, but only the last axis, "
                "that of channels, is supported. Build the model with axis=-1 and "
                "data_format='channels_last'"
            )
    _, *state = tf.nest.flatten(call.outputs)
    if any(graph.is_output(moment) or graph.consumers(moment) for moment in state):
        yield (
            f"The state of layer {call.described} is used outside of other such "
            "layers. Leave it out of the model's outputs"
        )
