"""What accompanies a run: generators, schedules of weights, monitors, TensorBoard."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

from ..._keras import keras
from ...callbacks import PowerScheduler, TauScheduler
from ..folder import Journal
from ..settings import RunSettings
from ._mode import ModeStatistics, needs_statistics
from ._monitors import monitors
from ._randomness import Reseeding

_log = logging.getLogger("larq_nobn")


def watchers(
    settings: RunSettings,
    network: keras.Model,
    journal: Journal,
    folder: Path,
    cache: str,
) -> list[keras.callbacks.Callback]:
    """The callbacks of a run, each before those that write down what it adds.

    Arguments:
        settings: What is trained, and how.
        network: Compiled.
        journal: Writes the history.
        folder: Where the files go.
        cache: Where decoded pictures are kept.
    """
    logs = _logs_in(folder)
    return [
        Reseeding(settings.seed),
        *_movers(settings, network, cache),
        *monitors(settings, network, logs and logs / "monitors"),
        journal,
        *_tensorboard(logs),
    ]


def _movers(
    settings: RunSettings, network: keras.Model, cache: str
) -> list[keras.callbacks.Callback]:
    """What changes the network from epoch to epoch."""
    schedulers = (TauScheduler, PowerScheduler)
    found = [each() for each in schedulers if each.quantizers_of(network)]
    if needs_statistics(network):
        found.append(ModeStatistics(network, settings, cache))
    return found


def _logs_in(folder: Path) -> Path | None:
    """Where TensorBoard finds the run; None where nobody could read it."""
    if find_spec("tensorboard") is None:
        _log.warning(
            "logs/ is left out because TensorBoard is not installed. "
            "Install it with: pip install 'larq-nobn[plots]'"
        )
        return None
    return folder / "logs"


def _tensorboard(logs: Path | None) -> list[keras.callbacks.Callback]:
    if logs is None:
        return []
    # Without the graph and without a profile: they take longer than small epochs.
    return [_TensorBoard(logs, write_graph=False, profile_batch=0)]


class _TensorBoard(keras.callbacks.TensorBoard):
    """Keeps nothing back: what a killed process has not written is in no checkpoint."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        for writer in self._writers.values():
            writer.flush()
