"""Checkpoints of a run: all that its next epoch depends on, in one file each."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..._files import replacing
from ..._keras import keras
from ..settings import RunSettings

_log = logging.getLogger("larq_nobn")
_KEPT = 2
_DIGEST_SIZE = hashlib.sha256().digest_size


class Stateful(Protocol):
    """What a checkpoint holds besides variables: plain JSON, given and taken back."""

    def get_state(self) -> Any:
        """Returns the state."""

    def set_state(self, state: Any) -> None:
        """Takes back what `get_state` returned."""


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch, and goes on from the newest whole one.

    A file holds every variable of the network and of its optimizer, the scale of the
    loss included, what `stateful` gives, the settings, and a digest of it all. Random
    draws need no state: see `Reseeding`. On CPUs, what goes on from a file ends in the
    same bits as what was never interrupted; with several replicas moving averages may
    differ in the last one, because the file holds the mean of those that each replica
    has. It comes last among the callbacks, because a checkpoint says that its epoch is
    over.

    Arguments:
        folder: Where the files are; the last two are kept.
        settings: Those of the run, as plain JSON. Checkpoints of others do not count.
        stateful: Named objects with a state of their own.
        writes: Whether this process writes. Of several workers all take part, because
            reading a variable may need all of them, and one writes.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        stateful: Mapping[str, Stateful],
        writes: bool = True,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._settings = dict(settings)
        self._stateful = dict(stateful)
        self._writes = writes
        self._kept: list[Path] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the checkpoint and removes the one before the last."""
        variables = _variables(self.model)
        header = {
            "epochs": epoch + 1,
            "settings": self._settings,
            "variables": [_description(variable) for variable in variables],
            "state": {name: each.get_state() for name, each in self._stateful.items()},
        }
        values = [variable.numpy() for variable in variables]
        if not self._writes:
            return
        self._folder.mkdir(exist_ok=True)
        target = self._folder / f"epoch-{epoch + 1:04}.npz"
        _write(target, header, values)
        self._kept = [*self._kept, target][-_KEPT:]
        # Damaged ones too, and what a process left that was killed while it wrote.
        for file in set(self._folder.iterdir()) - set(self._kept):
            file.unlink()

    def restore(self, model: keras.Model) -> int:
        """Sets a compiled model to the newest usable checkpoint, and says what is not.

        Arguments:
            model: As it was before its first epoch.

        Returns:
            The number of epochs that are over; 0 if there is no usable checkpoint.
        """
        files = checkpoints_in(self._folder)
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        for file in files:
            try:
                header, values = _read(file)
                self._check(header, variables)
            except ValueError as error:
                _log.warning("%s is not used: %s.", file, error)
                continue
            with model.distribute_strategy.scope():
                keras.backend.batch_set_value(list(zip(variables, values, strict=True)))
            for name, each in self._stateful.items():
                each.set_state(header["state"][name])
            self._kept = [file]
            return int(header["epochs"])
        if files:
            _log.warning("%s has no usable checkpoint: it begins anew.", self._folder)
        return 0

    def _check(self, header: dict[str, Any], variables: list[Any]) -> None:
        if completed(header["settings"], self._settings) != self._settings:
            raise ValueError("it is of a run with other settings")
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


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, whole or not; the newest first."""
    return sorted(folder.glob("epoch-*.npz"), key=epochs_of, reverse=True)


def epochs_of(checkpoint: Path) -> int:
    """How many epochs are over, by the name of the file."""
    return int(checkpoint.stem.removeprefix("epoch-"))


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


def _write(target: Path, header: dict[str, Any], values: list[np.ndarray]) -> None:
    """A NumPy archive with a digest behind it, which NumPy passes over."""
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(buffer, header=text, **{str(i): value for i, value in enumerate(values)})
    content = buffer.getbuffer()
    with replacing(target) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.write(hashlib.sha256(content).digest())


def _read(file: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads what `_write` wrote.

    Raises:
        ValueError: If a single bit is not as it was written.
    """
    whole = memoryview(file.read_bytes())
    content, digest = whole[:-_DIGEST_SIZE], whole[-_DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("it is torn or damaged")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
        values = [archive[str(i)] for i in range(len(header["variables"]))]
    return header, values
