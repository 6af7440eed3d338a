"""Calls that behave as in training, whatever their model is called for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from .._keras import keras
from ..layers import BatchKalmanNormalization
from ._calls import TRAINING_ONLY, Call, calls
from ._errors import ModelError

_KINDS = (
    keras.layers.BatchNormalization,
    keras.layers.experimental.SyncBatchNormalization,
    BatchKalmanNormalization,
)


def is_batch_norm(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer normalizes with statistics of the batch."""
    return isinstance(layer, _KINDS)


def training_argument(call: Call) -> Any:
    """Returns the `training` that a call was given, by name or by position.

    None if it was given none, and follows the call of the model around it.
    """
    place = training_position(call)
    if place is not None and place < len(call.node.call_args):
        return call.node.call_args[place]
    return call.node.call_kwargs.get("training")


def training_position(call: Call) -> int | None:
    """Returns the position of `training` among a layer's arguments, if it takes any."""
    layer = call.node.layer
    if not layer._expects_training_arg:
        return None
    return layer._call_spec.arg_positions.get("training")


def check_inference(model: keras.Model, batch_norms: bool = True) -> None:
    """Rejects calls that behave as in training at inference, too.

    Arguments:
        model: A functional model.
        batch_norms: Whether those count, too.

    Raises:
        ModelError: Naming all of them.
    """
    found = [
        f"Layer {call.label!r} ({type(call.node.layer).__name__}) is called with "
        f"training=True, so that {_effect(call.node.layer)} at inference too. Call it, "
        "and the models that contain it, without that argument"
        for call, mode in _modes(model, None)
        if mode is not None and not tf.is_tensor(mode) and bool(mode)
        if batch_norms or not is_batch_norm(call.layer)
    ]
    if found:
        raise ModelError("; ".join(dict.fromkeys(found)) + ".")


def _modes(model: keras.Model, outer: Any) -> Iterator[tuple[Call, Any]]:
    """Each call that takes a `training`, and the one it gets; None if none is fixed."""
    for call in calls(model):
        given = training_argument(call)
        mode = outer if given is None else given
        if getattr(call.layer, "_is_graph_network", False):
            yield from _modes(call.layer, mode)
        elif call.node.layer._expects_training_arg:
            yield call, mode


def _effect(layer: keras.layers.Layer) -> str:
    if is_batch_norm(layer):
        return "its output depends on the batch"
    if isinstance(layer, TRAINING_ONLY):
        return "its output is random"
    return "it computes as in training"
