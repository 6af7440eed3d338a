"""Checkpoints of a run: all that its next step depends on, in one file each."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..._keras import keras
from ..settings import RunSettings
from ._archives import START, Position, checkpoints_in, name_of, read, write

_log = logging.getLogger("larq_nobn")
_KEPT = 2


class Pace(Protocol):
    """Says when a checkpoint within an epoch is due."""

    def is_due(self, steps: int) -> bool:
        """Tells it behind so many steps of an epoch, all of which are asked about."""

    def written(self) -> None:
        """Hears of a checkpoint, whether it was due or not."""


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint holds besides variables: plain JSON, given and taken back."""

    def get_state(self) -> Any:
        """Returns the state."""

    def set_state(self, state: Any) -> None:
        """Takes back what `get_state` returned."""


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch, and goes on from the newest whole one.

    A file holds every variable of the network and of its optimizer, the scale of the
    loss included, what `stateful` gives, the settings, and a digest of it all. Between
    epochs random draws need no state: see `Reseeding`. A checkpoint within an epoch, of
    which `pace` says when it is due, also holds what `within` gives: metrics so far,
    generators, what monitors remember. On CPUs, what goes on from a file ends in the
    same bits as what was never interrupted; with several replicas moving averages may
    differ in the last one, because the file holds the mean of those that each replica
    has. Weights that are not finite are not written: what is kept is good to go on
    from. It comes last among the callbacks, because a checkpoint says that its epoch,
    or its step, is over.

    Arguments:
        folder: Where the files are; the last two are kept.
        settings: Those of the run, as plain JSON. Checkpoints of others do not count.
        stateful: Named objects with a state of their own.
        within: The same, of those whose state every epoch begins anew.
        pace: When to write within an epoch; None for never.
        writes: Whether this process writes. Of several workers all take part, because
            reading a variable may need all of them, and one writes.

    Attributes:
        last: Where the newest was written that this run could go on from.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        stateful: Mapping[str, Stateful],
        within: Mapping[str, Stateful] | None = None,
        pace: Pace | None = None,
        writes: bool = True,
    ) -> None:
        super().__init__()
        self._supports_tf_logs = True  # logs stay on the device
        self._folder = folder
        self._settings = dict(settings)
        self._stateful = dict(stateful)
        self._within = dict(within or {})
        self._pace = pace
        self._writes = writes
        self._kept: list[Path] = []
        self._pending: dict[str, Any] = {}
        self._epoch = 0
        self.last: Position | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Makes the first epoch the rest of one, if it is: the others have begun it."""
        self._epoch = epoch
        for name, state in self._pending.items():
            self._within[name].set_state(state)
        self._pending = {}

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Writes a checkpoint if one is due; behind the last step the epoch's comes."""
        steps = batch + 1
        if self._pace is None or steps == self.params["steps"]:
            return
        if self._pace.is_due(steps):
            states = {name: each.get_state() for name, each in self._within.items()}
            self._save(Position(self._epoch, steps), {"within": states})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the checkpoint of the epoch."""
        self._save(Position(epoch + 1, 0), {})

    def _save(self, position: Position, more: dict[str, Any]) -> None:
        """Writes one, if the weights are finite; removes the one before the last."""
        variables = _variables(self.model)
        values = [variable.numpy() for variable in variables]
        if _is_good(self.model, values):
            self._write(position, more, variables, values)
        if self._pace is not None:
            self._pace.written()

    def _write(
        self,
        position: Position,
        more: dict[str, Any],
        variables: list[Any],
        values: list[np.ndarray],
    ) -> None:
        header = {
            **position._asdict(),
            "settings": self._settings,
            "variables": [_description(variable) for variable in variables],
            "state": {name: each.get_state() for name, each in self._stateful.items()},
            **more,
        }
        if self._writes:
            self._folder.mkdir(exist_ok=True)
            target = self._folder / name_of(position)
            write(target, header, values)
            self._kept = [*self._kept, target][-_KEPT:]
            # Damaged ones too, and what a process left that was killed while it wrote.
            for file in set(self._folder.iterdir()) - set(self._kept):
                file.unlink()
        self.last = position

    def restore(self, model: keras.Model) -> Position:
        """Sets a compiled model to the newest usable checkpoint, and says what is not.

        Arguments:
            model: As it was before its first epoch.

        Returns:
            Where the checkpoint was written; the begin if there is no usable one.
        """
        files = checkpoints_in(self._folder)
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        for file in files:
            try:
                header, values = read(file)
                self._check(header, variables)
                if not _is_good(model, values):
                    raise ValueError("its weights are not finite")
            except ValueError as error:
                _log.warning("%s is not used: %s.", file, error)
                continue
            except (AttributeError, KeyError, TypeError, IndexError) as error:
                _log.warning("%s is not used: no run writes it so (%r).", file, error)
                continue
            with model.distribute_strategy.scope():
                keras.backend.batch_set_value(list(zip(variables, values, strict=True)))
            for name, each in self._stateful.items():
                each.set_state(header["state"][name])
            self._pending = header.get("within", {})
            self._kept = [file]
            # Older versions wrote behind epochs only.
            self.last = Position(header["epochs"], header.get("steps", 0))
            return self.last
        if files:
            _log.warning("%s has no usable checkpoint: it begins anew.", self._folder)
        return START

    def _check(self, header: dict[str, Any], variables: list[Any]) -> None:
        if completed(header["settings"], self._settings) != self._settings:
            raise ValueError("it is of a run with other settings")
        if header.get("steps", 0) and sorted(header["within"]) != sorted(self._within):
            raise ValueError("it was written within an epoch, under other callbacks")
        found = header["variables"]
        wanted = [_description(variable) for variable in variables]
        if len(found) != len(wanted):
            raise ValueError(
                f"it has {len(found)} variables, and this run has {len(wanted)}"
            )
        for its, ours in zip(found, wanted, strict=True):
            if its != ours:
                raise ValueError(f"it has {its} where this run has {ours}")


def completed(found: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an older version wrote, with those that it did not know.

    Arguments:
        found: What it wrote.
        given: Settings of this version, of which a missing one is taken as by default.
    """
    defaults = json.loads(json.dumps(asdict(RunSettings())))
    return {name: defaults[name] for name in given if name in defaults} | {**found}


def _is_good(model: keras.Model, values: list[np.ndarray]) -> bool:
    """Whether the weights, which come first, are finite."""
    weights = values[: len(model.weights)]
    return all(np.isfinite(value).all() for value in weights)


def _variables(model: keras.Model) -> list[Any]:
    """All variables that a training step changes or depends on."""
    optimizer = model.optimizer
    found = [*model.weights, *optimizer.variables]
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        # Not among its variables, as they do not belong to the inner optimizer.
        scale = optimizer._loss_scale
        found += [scale.current_loss_scale, scale.counter]
    # A quantized variable reads as ±1 inside of Larq's scope.
    return [getattr(variable, "latent_variable", variable) for variable in found]


def _description(variable: Any) -> list[Any]:
    """What has to be the same: last part of the name, shape and type."""
    # Keras counts unnamed layers over the whole process, so paths are no use.
    return [
        variable.name.rsplit("/", 1)[-1],
        variable.shape.as_list(),
        variable.dtype.name,
    ]
