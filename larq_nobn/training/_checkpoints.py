"""Checkpoints of a run: everything its next step depends on, and when to write it."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .. import _signals
from .._errors import InvalidValue
from .._files import is_leftover, read_arrays, replacing
from .._keras import keras
from ..config._run_files import CHECKPOINTS, INNER_RUNS
from ..graph import _operation

_log = logging.getLogger("larq_nobn")
# Number of newest checkpoints that are not deleted.
_NEWEST = 2
# Seconds between two checkpoints within an epoch.
SECONDS = 600.0
# A test cannot be resumed: one is written before it if the last is older than this.
_SECONDS_BEFORE_TEST = 60.0
# The file of the architecture, which opening an unfinished run needs.
NETWORK = "network.keras"
_NAME = re.compile(r"epoch-\d+(-step-\d+)?\.npz")


class Position(NamedTuple):
    """The progress of a training: finished epochs, and steps of the next epoch."""

    epochs: int
    steps: int

    def __str__(self) -> str:
        """Returns the last epoch or step in words: `"step 20 of epoch 4"`."""
        if not self.steps:
            return f"epoch {self.epochs}"
        return f"step {self.steps} of epoch {self.epochs + 1}"


START = Position(0, 0)


def checkpoints_in(folder: Path) -> list[Path]:
    """Returns the checkpoint files of a folder, also damaged ones; newest first."""
    files = folder.iterdir() if folder.is_dir() else ()
    named = [file for file in files if _NAME.fullmatch(file.name)]
    return sorted(named, key=_position_of, reverse=True)


def _position_of(checkpoint: Path) -> Position:
    epochs, *steps = map(int, checkpoint.stem.split("-")[1::2])
    return Position(epochs, *steps or [0])


def newest_position(output: Path) -> Position | None:
    """Returns the newest position of a run, or of its first stage or teacher."""
    for folder in (output, *(output / name for name in INNER_RUNS)):
        for newest in checkpoints_in(folder / CHECKPOINTS):
            return _position_of(newest)
    return None


def name_of(position: Position) -> str:
    steps = f"-step-{position.steps:07}" if position.steps else ""
    return f"epoch-{position.epochs:04}{steps}.npz"


def read_checkpoint(file: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads header and values of a checkpoint, which the archive has checksums of.

    Raises a ValueError if the file is damaged.
    """
    try:
        arrays = read_arrays(file)
        header = json.loads(arrays.pop("header", np.zeros(0, np.uint8)).tobytes())
    except ValueError as error:
        raise InvalidValue(f"it is torn or damaged: {error}") from error
    return header, [arrays[str(number)] for number in range(len(arrays))]


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch, and resumes from the newest intact one.

    A file contains every variable of the network and of its optimizer, the loss scale
    included, and the states of `stateful` objects: JSON that `get_state` returns and
    `set_state` takes. Within an epoch, one is written `every` so many steps (None: ten
    minutes), and also contains the states of `within`. On CPUs, a resumed run is
    bitwise identical to an uninterrupted one; with several replicas, moving averages
    may differ in the last bit, because the file contains their mean over replicas.
    Weights that are not finite are not written. The newest two files remain; with
    `best`, which returns the best epoch of a history, also those of their best epochs.

    It must be the last callback, because a checkpoint says that its epoch or step is
    over. All workers take part, because reading a variable may need them; one `writes`.

    Attributes:
        last: Position of the newest checkpoint that can be resumed from, if any.
    """

    def __init__(
        self,
        folder: Path,
        stateful: Mapping[str, Any],
        within: Mapping[str, Any] | None = None,
        every: int | None = None,
        writes: bool = True,
        averages: Sequence[tf.Variable] = (),
        best: Callable[[Any], int] | None = None,
        own: Mapping[str, Any] | None = None,
        save: Callable[[Path], None] | None = None,
    ) -> None:
        super().__init__()
        self._supports_tf_logs = True  # logs stay on the device
        self._folder, self._stateful = folder, stateful
        self._within, self._own = within or {}, own or {}
        self._every, self._writes, self._averages = every, writes, averages
        self._best, self._save_network = best, save
        self._saved = time.monotonic()
        self._needed: list[set[Path]] = []
        self._pending: dict[str, Any] = {}
        self._epoch = 0
        self.last: Position | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """After a resume, restores the states of callbacks, once."""
        self._epoch = epoch
        known = {**self._within, **self._own}
        for name, state in self._pending.items():
            if name in known:  # the user may leave out a callback
                known[name].set_state(state)
        self._pending = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Writes a checkpoint if one is due; after a signal, also raises its error."""
        steps, stopped = batch + 1, _signals.in_step and _signals.stopped_by is not None
        if stopped or self.is_due(steps, steps == self.params["steps"]):
            states = {name: each.get_state() for name, each in self._within.items()}
            self._save(Position(self._epoch, steps), {"within": states})
        if stopped:
            _signals.raise_stopped()

    def is_due(self, steps: int, last: bool = False) -> bool:
        """Returns whether one is due after a step; the `last` step precedes a test."""
        if self._every is not None:
            return steps % self._every == 0 and not last
        seconds = _SECONDS_BEFORE_TEST if last else SECONDS
        return time.monotonic() - self._saved >= seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._save(Position(epoch + 1, 0), {})

    def _save(self, position: Position, more: dict[str, Any]) -> None:
        variables = [*_variables(self.model), *self._averages]
        values = [variable.numpy() for variable in variables]
        weights = values[: len(self.model.weights)]
        if all(np.isfinite(value).all() for value in weights):
            states = {name: each.get_state() for name, each in self._stateful.items()}
            header = {
                **position._asdict(),
                "variables": [_description(variable) for variable in variables],
                "state": states,
                "own": {name: each.get_state() for name, each in self._own.items()},
                **more,
            }
            if self._writes:
                self._write(name_of(position), header, values)
            self.last = position
        self._saved = time.monotonic()

    def _write(
        self, name: str, header: dict[str, Any], values: list[np.ndarray]
    ) -> None:
        self._folder.mkdir(exist_ok=True)
        target = self._folder / name
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        arrays = {str(number): value for number, value in enumerate(values)}
        content = io.BytesIO()  # NumPy cannot close a file on a full disk
        np.savez(content, header=text, **arrays)
        with replacing(target) as temporary:
            temporary.write_bytes(content.getbuffer())
        network = self._folder / NETWORK
        if self._save_network is not None and not network.exists():
            # Only for `load_run` of an unfinished run.
            try:
                self._save_network(network)
            except (ValueError, TypeError, RuntimeError) as error:
                self._save_network = None
                _log.warning("load_run cannot open the run before it ends: %s", error)
        needed = {target, *self._best_file(header["state"])}
        self._needed = [*self._needed, needed][-_NEWEST:]
        # Deletes damaged files, too, and those that a killed process has not finished.
        leftovers = filter(is_leftover, self._folder.iterdir())
        old = {*checkpoints_in(self._folder), *leftovers}.difference(*self._needed)
        for file in old:
            file.unlink()

    def restore(self, model: keras.Model) -> Position:
        """Loads the newest usable checkpoint into a compiled model; warns of others.

        Returns its position, or `START` if there is none.
        """
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        variables = [*_variables(model), *self._averages]
        for file in checkpoints_in(self._folder):
            try:
                header, values = self._read(file, variables)
                best = self._best_file(header["state"])
                for other in best - {file}:
                    self._read(other, variables)
            except ValueError as error:
                _log.warning("%s is not used: %s.", file, error)
                continue
            _set(model, variables, values)
            for name, each in self._stateful.items():
                each.set_state(header["state"][name])
            self._pending = {**header.get("own", {}), **header.get("within", {})}
            self._needed = [{file, *best}]
            self.last = Position(header["epochs"], header["steps"])
            return self.last
        return START

    def weights_of(
        self, model: keras.Model, epoch: int | None = None
    ) -> list[np.ndarray]:
        """Returns the tested weights of an epoch; of the current one for None."""
        variables = [*_variables(model), *self._averages]
        if epoch is None:
            values = [variable.numpy() for variable in variables]
        else:
            file = self._folder / name_of(Position(epoch, 0))
            values = self._read(file, variables)[1]
        weights = values[: len(model.weights)]
        if self._averages:
            places = [id(each) for each in latent_weights(model)]
            averages = values[-len(self._averages) :]
            for each, average in zip(model.trainable_variables, averages, strict=True):
                weights[places.index(id(_operation.latent(each)))] = average
        return weights

    def restore_epoch(self, model: keras.Model, epoch: int) -> None:
        variables = [*_variables(model), *self._averages]
        file = self._folder / name_of(Position(epoch, 0))
        _set(model, variables, self._read(file, variables)[1])

    def _best_file(self, states: Mapping[str, Any]) -> set[Path]:
        """Returns the checkpoint of the best epoch of the history, if there is one."""
        if self._best is None or not states["journal"]:
            return set()
        return {self._folder / name_of(Position(self._best(states["journal"]), 0))}

    def _read(
        self, file: Path, variables: list[Any]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Reads a checkpoint; raises a ValueError if it does not fit this run."""
        header, values = read_checkpoint(file)
        wanted = [_description(variable) for variable in variables]
        for theirs, ours in zip_longest(header["variables"], wanted):
            if theirs != ours:
                raise InvalidValue(f"it has {theirs} where this run has {ours}")
        return header, values


def _set(model: keras.Model, variables: list[Any], values: list[np.ndarray]) -> None:
    with model.distribute_strategy.scope():
        keras.backend.batch_set_value(list(zip(variables, values, strict=True)))
        _operation.finalize(model)


def _variables(model: keras.Model) -> list[Any]:
    """Returns all variables that a training step changes or depends on."""
    optimizer = model.optimizer
    variables = [*model.weights, *optimizer.variables]
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        # `variables` contains only those of the inner optimizer.
        scale = optimizer._loss_scale
        variables += [scale.current_loss_scale, scale.counter]
    # Inside Larq's scope, a quantized variable would read as ±1.
    return [_operation.latent(variable) for variable in variables]


def latent_weights(model: keras.Model) -> list[Any]:
    """Returns the weights, with latent weights in place of their signs."""
    return [_operation.latent(weight) for weight in model.weights]


def set_weights(model: keras.Model, values: list[np.ndarray]) -> None:
    _set(model, latent_weights(model), values)


def _description(variable: Any) -> list[Any]:
    """Returns what must be equal on resuming: last part of the name, shape, type."""
    # The rest of the name is no use: Keras numbers unnamed layers per process.
    name = variable.name.rsplit("/", 1)[-1]
    return [name, variable.shape.as_list(), variable.dtype.name]


class EpochMetrics:
    """Loss and accuracy of the epoch so far, as a state of checkpoints."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def get_state(self) -> list[list[Any]]:
        metrics = self._model.metrics
        return [[each.numpy().tolist() for each in own.variables] for own in metrics]

    def set_state(self, state: list[list[Any]]) -> None:
        """Restores them; call it after the start of the epoch, which resets them."""
        # Keras builds them only in the first step, so build them here.
        outputs = tf.zeros((1, *self._model.output_shape[1:]))
        self._model.compiled_loss.build(outputs)
        self._model.compiled_metrics.build(outputs, tf.zeros((1,), tf.int64))
        for metric, values in zip(self._model.metrics, state, strict=True):
            for variable, value in zip(metric.variables, values, strict=True):
                keras.backend.set_value(variable, value)


class CheckpointValue:
    """A value in every checkpoint; `other` is the error if a resumed one differs."""

    def __init__(self, value: Any = None, other: str = "") -> None:
        self.value, self._other = value, other

    def get_state(self) -> Any:
        return self.value

    def set_state(self, state: Any) -> None:
        if self._other and state != self.value:
            raise InvalidValue(self._other)
        self.value = state
