"""Which weights of a run are tested and saved: averaged ones, or those of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras
from ..config._recipe import Recipe

History = Sequence[Mapping[str, float]]


def check_choice_of_epoch(recipe: Recipe, watched: str) -> None:
    """Rejects a choice by the test images."""
    if watched == "test" and (recipe.keep == "best" or recipe.patience is not None):
        raise InvalidValue(
            f"keep={recipe.keep!r} with patience={recipe.patience} would choose the "
            "epoch on test images: there is no validation split. Hold one out by "
            "--validation 0.1 (validation=0.1)."
        )


def kept_epoch(recipe: Recipe, history: History) -> int:
    """Returns the epoch whose weights are saved, counted from 1."""
    return best_epoch(recipe, history) if recipe.keep == "best" else len(history)


def best_epoch(recipe: Recipe, history: History) -> int:
    """Returns the first epoch with the best value of `monitor`, counted from 1."""
    sign = 1 if recipe.monitor.endswith("accuracy") else -1

    def value(row: Mapping[str, float]) -> float:
        rank = sign * row[recipe.monitor]
        return -math.inf if math.isnan(rank) else rank

    return int(max(history, key=value)["epoch"])


def is_over(recipe: Recipe, history: History) -> bool:
    """Whether a training has all of its epochs, or stops early after the last one."""
    if not history:
        return False
    last = int(history[-1]["epoch"])
    patience = recipe.patience
    tired = patience is not None and last - best_epoch(recipe, history) >= patience
    return tired or last >= recipe.epochs


class WeightAverages(keras.callbacks.Callback):
    r"""Exponential moving averages of trained weights, tested in the place of these.

    After step t, with decay d, and with less of it in the first steps, so that the
    initial weights are soon forgotten:

    \[ A \leftarrow d_t A + (1 - d_t) W, \qquad
       d_t = \min\Big(d, \frac{1 + t}{10 + t}\Big) . \]

    Of latent weights of binary kernels the average is taken, whose signs are then the
    binary kernel. The step is the whole one, after constraints, clipping and the factor
    of a parameter group, which Keras' `use_ema` in an inner optimizer does not see.

    Attributes:
        variables: The averages, for checkpoints.
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._weights = [
            getattr(weight, "latent_variable", weight)
            for weight in network.trainable_variables
        ]
        self.variables = [
            tf.Variable(
                tf.zeros(weight.shape, weight.dtype),
                trainable=False,
                name=weight.name.partition(":")[0],
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for weight in self._weights
        ]

    def start(self) -> None:
        """Sets the averages to the weights that a training starts from."""
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(weight.read_value())

    def update(self, step: tf.Tensor) -> None:
        """Adds the weights after a step, counted from 1."""
        count = tf.cast(step, tf.float32)
        keep = tf.minimum(self._decay, (1.0 + count) / (10.0 + count))
        for average, weight in zip(self.variables, self._weights, strict=True):
            change = tf.cast(1.0 - keep, average.dtype) * (average - weight)
            average.assign_sub(change)

    def swap(self) -> None:
        for average, weight in zip(self.variables, self._weights, strict=True):
            before = weight.numpy()
            weight.assign(average.numpy())
            average.assign(before)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Puts the averages in the place of the weights, and after the test back."""
        self.swap()

    on_test_end = on_test_begin
