"""The callbacks of a run; its history decides which epoch is saved and when it ends."""

from __future__ import annotations

import csv
import io
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .. import callbacks as monitors
from .._errors import InvalidValue
from .._files import replacing
from .._keras import keras
from ..callbacks import PowerScheduler, ProgressiveBinarization, TauScheduler
from ..callbacks._clipping import clipping_in
from ..callbacks._weights import binary_weights
from ..config import _run_files
from ..config._recipe import Recipe
from ..data import DatasetInfo
from ..graph import _copies, _operation
from ..population import BatchNormStatistics, averages_of, has_batch_norm
from ..population._batches import model_batches
from ..quantizers import BernoulliSign
from ._network import schedule_for
from ._run_settings import RunSettings

_log = logging.getLogger("larq_nobn")
History = Sequence[Mapping[str, float]]


def callbacks_of(
    settings: RunSettings,
    network: keras.Model,
    history: HistoryWriter,
    folder: Path,
    few_images: Callable[[], tf.data.Dataset],
    averages: WeightAverages | None = None,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a run, in call order: metrics first, then writers."""
    callbacks: list[keras.callbacks.Callback] = [Reseeding(settings.seed)]
    if averages is not None:
        callbacks.append(averages)
    for scheduler in (TauScheduler, PowerScheduler, ProgressiveBinarization):
        if scheduler.quantizers_of(network):
            callbacks.append(scheduler())
    if needs_statistics(network, averages is not None):
        callbacks.append(ModeStatistics(network, few_images(), settings.batch_size))
    logs = folder / _run_files.LOGS if find_spec("tensorboard") else None
    scalars = logs and logs / "monitors"
    # Before the weight monitors, so that their time is not measured.
    callbacks.append(monitors.ThroughputMonitor(settings.batch_size, scalars))
    if binary_weights(network):
        callbacks.append(monitors.BinaryWeightMonitor(log_dir=scalars))
    if list(clipping_in(network.optimizer)):
        callbacks.append(monitors.GradientClippingMonitor(scalars))
    callbacks += [monitors.MemoryMonitor(scalars), history]
    if logs is None:
        _log.warning(
            "logs/ is left out because TensorBoard is not installed. "
            "Install it with: pip install 'larq-nobn[plots]'"
        )
        return callbacks
    # Writing the graph or a profile would take longer than a small epoch.
    board = keras.callbacks.TensorBoard(logs, write_graph=False, profile_batch=0)
    return [*callbacks, board]


def tested(row: Mapping[str, float]) -> dict[str, float]:
    """Returns metrics with `test_` in their names where Keras writes `val_`."""
    return {re.sub("^val_", "test_", name): value for name, value in row.items()}


@contextmanager
def own_generators() -> Iterator[None]:
    """Gives its own generator to each random layer that is built in this context.

    The state of Keras' usual random operations cannot be read or set, and their numbers
    repeat when the seed of the process is set again.
    """
    experimental = keras.backend.experimental
    before = experimental.is_tf_random_generator_enabled()
    experimental.enable_tf_random_generator()
    try:
        yield
    finally:
        if not before:
            experimental.disable_tf_random_generator()


class TestMetrics(keras.callbacks.Callback):
    """Renames metrics of the test split from Keras' `val_*` to `test_*`."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Renames them in place, because all callbacks get the same `logs`."""
        assert logs is not None
        renamed = tested(logs)
        logs.clear()
        logs.update(renamed)


class Reseeding(keras.callbacks.Callback):
    """Seeds the random generators of a network at the start of each epoch.

    The random numbers of epoch e, such as those of dropout, then depend only on the
    seed, e and the position of the layer, so that a resumed run draws the same ones.
    Each replica draws different numbers.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for place, generator in enumerate(_generators(self.model)):
            entropy = np.random.SeedSequence([self._seed, epoch, place])
            state = entropy.generate_state(generator.state.shape[0], np.uint64)
            generator.reset(state.view(np.int64))

    def get_state(self) -> list[list[int]]:
        """Returns the states of the generators, which all replicas share."""
        return [each.state.numpy().tolist() for each in _generators(self.model)]

    def set_state(self, state: list[list[int]]) -> None:
        for generator, values in zip(_generators(self.model), state, strict=True):
            generator.reset(np.array(values, np.int64))


def _generators(model: keras.Model) -> list[Any]:
    """Returns the generators of all layers, in the order of the architecture."""
    holders = (getattr(each, "_random_generator", None) for each in model.submodules)
    generators = (getattr(holder, "_generator", None) for holder in holders)
    return [generator for generator in generators if generator is not None]


def needs_statistics(network: keras.Model, averaged: bool = False) -> bool:
    """Returns whether training and inference use different weights with batch norm."""
    drawn = any(isinstance(module, BernoulliSign) for module in network.submodules)
    return (drawn or averaged) and has_batch_norm(network)


class ModeStatistics(keras.callbacks.Callback):
    """Re-estimates batch-norm statistics for the tested weights before each test.

    Tests and files use averaged weights, or the most probable signs, for which the
    statistics from training are far off. They are measured on training images, in
    batches of `batch_size` as in training. Training itself does not use them.
    """

    def __init__(
        self, network: keras.Model, few_images: tf.data.Dataset, batch_size: int
    ) -> None:
        super().__init__()
        self._network = network
        # A copy outside of the strategy can be read without the other workers.
        self._copy = _copies.copied(network)
        self._statistics = BatchNormStatistics(self._copy)
        images: tf.Tensor = next(iter(few_images))[0]
        self._batches = list(model_batches(network, images, batch_size))

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        _operation.take_state(self._copy, self._network)
        self._statistics.take(lambda: (inputs for inputs, _ in self._batches))
        ours, taken = averages_of(self._network), averages_of(self._copy)
        for average, value in zip(ours, taken, strict=True):
            average.assign(value.numpy())


class WeightAverages(keras.callbacks.Callback):
    r"""Exponential moving averages of the weights, which replace them in tests.

    After step t, with decay d, which is lower in the first steps to forget the initial
    weights soon:

    \[ A \leftarrow d_t A + (1 - d_t) W, \qquad
       d_t = \min\Big(d, \frac{1 + t}{10 + t}\Big) . \]

    For a binary kernel the latent weights are averaged; their signs are the kernel. The
    averages include the effect of constraints, clipping and parameter groups, which
    Keras' `use_ema` of an inner optimizer would not see.

    Attributes:
        variables: The averages, for checkpoints.
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._weights = [
            _operation.latent(weight) for weight in network.trainable_variables
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
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(weight.read_value())

    def update(self, step: tf.Tensor) -> None:
        """Adds the weights after a step, counted from 1."""
        count = tf.cast(step, tf.float32)
        keep = tf.minimum(self._decay, (1.0 + count) / (10.0 + count))
        for average, weight in zip(self.variables, self._weights, strict=True):
            change = tf.cast(1.0 - keep, average.dtype) * (average - weight)
            average.assign_sub(change)

    def swap(self, logs: dict[str, float] | None = None) -> None:
        for average, weight in zip(self.variables, self._weights, strict=True):
            before = weight.numpy()
            weight.assign(average.numpy())
            average.assign(before)

    on_test_begin = on_test_end = swap


class HistoryWriter(keras.callbacks.Callback):
    """Writes `history.csv`: one row per epoch, with Keras' names.

    It also stops a training that is over, see `is_over`.
    """

    def __init__(self, target: Path, settings: RunSettings, steps: int) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._target, self._settings, self._steps = target, settings, steps
        self._learning_rate = schedule_for(settings, steps)
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the row; `seconds` includes the pass over validation images."""
        row: dict[str, float] = {"epoch": epoch + 1}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        row["learning_rate"] = float(self._learning_rate(epoch * self._steps))
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        self.set_state([*self.rows, row])
        if is_over(self._settings, self.rows):
            self.model.stop_training = True

    def get_state(self) -> list[dict[str, float]]:
        return self.rows

    def set_state(self, state: list[dict[str, float]]) -> None:
        """Replaces all rows of the file, for example by those of a checkpoint."""
        self.rows = [dict(row) for row in state]
        names = dict.fromkeys(name for row in state for name in row)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [*names], restval="nan")
        writer.writeheader()
        writer.writerows(state)
        with replacing(self._target) as temporary:
            temporary.write_bytes(text.getvalue().encode())


def check_validated(what: str, info: DatasetInfo) -> None:
    """Rejects a selection that would use the test images."""
    if not info.validation_examples:
        raise InvalidValue(
            f"This would select {what} on the test images: there is no validation "
            "split. Hold one out by --validation 0.1 (validation=0.1)."
        )


def saved_epoch(recipe: Recipe, history: History) -> int:
    """Returns the epoch whose weights are saved, counted from 1."""
    return best_epoch(recipe, history) if recipe.keep == "best" else len(history)


def best_epoch(recipe: Recipe, history: History) -> int:
    """Returns the first epoch with the best value of `monitor`, counted from 1."""
    sign = 1 if recipe.monitor.endswith("accuracy") else -1
    values = np.array([sign * row[recipe.monitor] for row in history])
    best = np.where(np.isnan(values), -np.inf, values).argmax()
    return int(history[int(best)]["epoch"])


def is_over(recipe: Recipe, history: History) -> bool:
    """Returns whether all epochs are trained, or early stopping ends the training."""
    if not history:
        return False
    last = int(history[-1]["epoch"])
    patience = recipe.patience
    tired = patience is not None and last - best_epoch(recipe, history) >= patience
    return tired or last >= recipe.epochs
