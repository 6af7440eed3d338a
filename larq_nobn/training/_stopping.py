"""Stops a training early: at a signal, or at a loss that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from .. import _signals
from .._errors import UserError
from .._keras import keras
from .._math import is_finite
from ..callbacks._monitor import owners
from ..graph import _operation
from ._checkpoints import START, Checkpoints, Position
from ._run_settings import RunSettings
from ._training_model import NOT_FINITE

# Parts of the messages that the training model and adaptive clipping raise.
_SAYS_NON_FINITE = (NOT_FINITE, "contains NaN or infinite values")
_IMAGES = "the images are not finite"


class NonFiniteLoss(UserError, ArithmeticError):
    """The loss of a training became infinite or NaN; the message says where.

    The step was not applied, and the run keeps its last good checkpoint.
    """


class StopCheck(keras.callbacks.Callback):
    """Tracks epoch and step, and raises if loss or weights are NaN or infinite.

    It also raises a signal's exception again, because the first one can get lost:
    Python ignores exceptions while it frees an object, and a training frees many. If
    it `saves`, `Checkpoints` handles a signal within a step, and writes a checkpoint.
    """

    def __init__(self, saves: bool = False) -> None:
        super().__init__()
        self._supports_tf_logs = True  # logs stay on the device
        self.position = START
        self._saves = saves

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.position = Position(epoch, 0)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.position = self.position._replace(steps=batch)
        _signals.in_step = self._saves

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if _signals.stopped_by is not None and not _signals.in_step:
            _signals.raise_stopped()

    on_test_batch_end = on_train_batch_end

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        _signals.in_step = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Raises for NaN after the last step, or under XLA, which drops assertions."""
        _signals.in_step = False
        if not np.isfinite(float((logs or {})["loss"])) or _bad_weights(self.model):
            raise tf.errors.InvalidArgumentError(None, None, NOT_FINITE)


@contextmanager
def explain_non_finite(
    settings: RunSettings,
    model: keras.Model,
    check: StopCheck,
    checkpoints: Checkpoints,
    batches: Callable[[str, Position], tf.data.Dataset],
) -> Iterator[None]:
    """Turns the error of a non-finite step into a `NonFiniteLoss` with a remedy."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if not any(part in error.message for part in _SAYS_NON_FINITE):
            raise
        images, _ = next(iter(batches("train", check.position)))
        cause = find_non_finite(model, images)
        last = checkpoints.last
        good = f"The last good checkpoint is that of {last}" if last else ""
        advice = (
            "--resume would fail at the same step. Train again, in another output, "
            f"with a learning rate below {settings.learning_rate:g} "
            "(--learning-rate), gradient clipping (--clip-factor 0.02), or "
            "mixed_bfloat16 instead of mixed_float16."
        )
        if cause == _IMAGES:
            advice = "Prepare the data set again."
        raise NonFiniteLoss(
            f"The loss is not finite at epoch {check.position.epochs + 1}, step "
            f"{check.position.steps + 1}: {cause}. "
            f"{good or 'There is no good checkpoint'}. {advice}"
        ) from error


def find_non_finite(model: keras.Model, images: tf.Tensor) -> str:
    """Returns the first non-finite quantity of a training step, as part of a sentence.

    The model is a compiled functional classifier; it is not changed.
    """
    if not is_finite(images):
        return _IMAGES
    if bad := _bad_weights(model):
        return f"weights of layer {owners(model, bad)[0]} are not finite"
    before = model.get_weights()
    layers = [layer for layer in model.layers if layer.inbound_nodes]
    outputs = [layer.get_output_at(0) for layer in layers]
    values = keras.Model(model.inputs, outputs)(images, training=True)
    model.set_weights(before)  # batch norm has moved its averages
    for layer, value in zip(layers, values, strict=True):
        if not all(map(is_finite, tf.nest.flatten(value))):
            return f"the output of layer {layer.name} is not finite (its inputs are)"
    return "a loss or a gradient, though all outputs are finite"


def _bad_weights(model: keras.Model) -> list[Any]:
    return [
        weight for weight in model.weights if not is_finite(_operation.latent(weight))
    ]
