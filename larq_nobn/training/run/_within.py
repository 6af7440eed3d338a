"""Checkpoints within an epoch: when they are due, and the metrics that they hold."""

from __future__ import annotations

import time
from typing import Any

import tensorflow as tf

from ..._keras import keras
from ._strategy import has_workers

SECONDS = 600.0
# How many steps apart several workers ask each other.
_ASKED_EVERY = 50


class Pace:
    """Every so many steps; or else, for a training of hours, every ten minutes of it.

    Arguments:
        every: Steps between checkpoints, counted from the begin of the epoch; None goes
            by the clock.
        strategy: Of the training. Its workers must write at the same step, but their
            clocks differ, so that all write as soon as it is time for one of them.
    """

    def __init__(self, every: int | None, strategy: tf.distribute.Strategy) -> None:
        self._every = every
        self._last = time.monotonic()
        self._alone = not has_workers(strategy)
        if not self._alone:
            with strategy.scope():
                self._late = tf.Variable(
                    0.0,
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )

    def is_due(self, steps: int) -> bool:
        """Tells whether to write behind so many steps of an epoch."""
        if self._every is not None:
            return steps % self._every == 0
        late = time.monotonic() - self._last >= SECONDS
        if self._alone or steps % _ASKED_EVERY:
            return late and self._alone
        self._late.assign(float(late))
        return bool(self._late.numpy() > 0)

    def written(self) -> None:
        """Lets the time begin anew."""
        self._last = time.monotonic()


class EpochMetrics:
    """Loss and accuracy of the epoch so far, as a state.

    Arguments:
        model: Compiled; the one that is fitted.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def get_state(self) -> list[list[Any]]:
        """Returns the values of all variables of all metrics."""
        return [
            [variable.numpy().tolist() for variable in metric.variables]
            for metric in self._model.metrics
        ]

    def set_state(self, state: list[list[Any]]) -> None:
        """Takes them back; behind the begin of the epoch, which sets them to 0."""
        self._make()
        # Checkpoints of earlier versions have no penalty, which is the last metric.
        for metric, values in zip(self._model.metrics, state, strict=False):
            for variable, value in zip(metric.variables, values, strict=True):
                keras.backend.set_value(variable, value)

    def _make(self) -> None:
        """Keras does not know them before the first step, which is still to come."""
        outputs = tf.zeros((1, *self._model.output_shape[1:]))
        self._model.compiled_loss.build(outputs)
        self._model.compiled_metrics.build(outputs, tf.zeros((1,), tf.int64))
