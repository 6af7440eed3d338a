"""Trains one network and writes its run folder."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import tensorflow as tf

from ... import data
from ..._keras import dtype_policy, keras
from ...calibration import calibrate
from ...callbacks import TauScheduler
from ...quantizers import ReCU
from ..folder import (
    CHECKPOINTS,
    Checkpoints,
    Journal,
    Run,
    draw_curves,
    run_record,
    save_model,
    write_json,
)
from ..settings import NETWORKS, RunSettings, scale_latents, with_kernels
from ._diagnosis import Watch, explained
from ._monitors import monitors
from ._optimizer import optimizer_for, schedule_for
from ._randomness import Reseeding, own_generators
from ._stages import carry
from ._step import Probabilities, Trainee
from ._stopping import StopCheck
from ._strategy import is_chief, shared

_log = logging.getLogger("larq_nobn")
# A batch of them sets the shifts and gains of a fresh network.
_CALIBRATION_IMAGES = 512


@dataclass(frozen=True)
class Circumstances:
    """What a run takes place under, without an influence on its weights.

    Arguments:
        progress: A callback that watches, if any.
        check: Raises if the process was asked to stop.
        resume: Whether an unfinished run goes on.
        strategy: The devices, and the workers of which this process is one.
    """

    progress: keras.callbacks.Callback | None
    check: StopCheck
    resume: bool
    strategy: tf.distribute.Strategy


def fit(
    settings: RunSettings,
    output: Path,
    folder: Path,
    before: keras.Model | None,
    teacher: Probabilities | None,
    around: Circumstances,
) -> Run:
    """Trains from the newest checkpoint on, or from the begin, to the end.

    Arguments:
        settings: What to train, and how.
        output: The run folder, where checkpoints are read.
        folder: Where this process writes: the same, unless it is a further worker.
        before: The network of the first stage, whose weights this one begins with.
        teacher: Whose outputs are learned; None for the labels.
        around: The circumstances.
    """
    keras.utils.set_random_seed(settings.seed)
    images, test_images = (_load(settings, split) for split in ("train", "test"))
    schedule = schedule_for(settings, len(images))
    strategy = around.strategy
    with dtype_policy(settings.precision), own_generators(), strategy.scope():
        network = _build(settings)
        _begin(network, settings, before)
        _compile(network, optimizer_for(settings, schedule, network))
        trainee = Trainee(network, settings.accumulate, teacher)
        _compile(trainee, network.optimizer)
    journal = Journal(folder / "history.csv", schedule, len(images))
    said = json.loads(json.dumps(asdict(settings)))
    checkpoints = Checkpoints(
        output / CHECKPOINTS, said, {"journal": journal}, writes=is_chief(strategy)
    )
    begun = checkpoints.restore(network)
    if begun:
        images = _load(settings, "train", begun)
    watch = Watch()
    watchers = [around.check, watch, Reseeding(settings.seed), *_movers(network)]
    logs = _logs_in(folder)
    watchers += monitors(settings, network, logs and logs / "monitors")
    watchers += [journal, *_tensorboard(logs)]
    if around.progress is not None:
        watchers.append(around.progress)
    with explained(settings, network, watch, output, partial(_load, settings, "train")):
        trainee.fit(
            shared(images, strategy),
            steps_per_epoch=len(images),
            epochs=settings.epochs,
            initial_epoch=begun,
            validation_data=shared(test_images, strategy),
            validation_steps=len(test_images),
            callbacks=[*watchers, checkpoints],
            verbose=0,
        )
    record = run_record(settings, network, journal.rows)
    save_model(network, folder / "model.keras")
    title = f"{settings.model}, {settings.normalization}, {settings.dataset}"
    draw_curves(folder / "curves.png", title, journal.rows)
    write_json(folder / "run.json", record)  # last: its presence means finished
    return Run(output, network, journal.rows, record)


def _begin(
    network: keras.Model, settings: RunSettings, before: keras.Model | None
) -> None:
    """Takes the weights of the stage before, or sets those that data decide."""
    if before is not None:
        carry(before, network)
        return
    scale_latents(network, settings.latent_scale)
    if settings.calibrate:
        few = min(_CALIBRATION_IMAGES, settings.limit or _CALIBRATION_IMAGES)
        one = replace(settings, batch_size=few, accumulate=1)
        calibrate(network, _load(one, "train").take(1))


def _movers(network: keras.Model) -> list[keras.callbacks.Callback]:
    """What changes the network from epoch to epoch."""
    has_tau = any(isinstance(each, ReCU) for each in network.submodules)
    return [TauScheduler()] if has_tau else []


def _load(settings: RunSettings, split: str, epoch: int = 0) -> tf.data.Dataset:
    return data.load(
        settings.dataset,
        split,
        settings.batch_size,
        reflect=settings.reflect,
        seed=settings.seed,
        epoch=epoch,
        limit=settings.limit,
        data_dir=settings.data_dir,
    )


def _build(settings: RunSettings) -> keras.Model:
    info = data.describe(settings.dataset)
    chosen = {"width": settings.width, "blocks": settings.blocks}
    network = NETWORKS[settings.model](
        info.image_shape,
        info.classes,
        normalization=settings.normalization,
        **{name: value for name, value in chosen.items() if value is not None},
        **settings.network,
    )
    return with_kernels(network, settings.kernel, settings.weight_decay)


def _compile(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )


def _logs_in(folder: Path) -> Path | None:
    """Where TensorBoard finds the run; None where nobody could read it."""
    if find_spec("tensorboard") is None:
        _log.warning(
            "logs/ is left out because tensorboard is not installed; "
            "pip install 'larq_nobn[plots]' brings it."
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
