"""A training run: from settings to a folder."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tensorflow as tf

from .. import data, models
from .._keras import dtype_policy, keras
from ..calibration import calibrate
from ..callbacks import TauScheduler
from ..quantizers import ReCU
from ._checkpoints import Checkpoints
from ._curves import draw_curves
from ._files import save_model, write_json
from ._folder import CHECKPOINTS, claimed, is_finished
from ._journal import Journal, run_record
from ._kernels import scale_latents, with_kernels
from ._monitors import monitors
from ._opening import Run, load_run
from ._optimizer import optimizer_for, schedule_for
from ._randomness import Reseeding, own_generators
from ._settings import RunSettings
from ._stages import carry
from ._step import Trainee
from ._stopping import StopCheck, stoppable

_log = logging.getLogger("larq_nobn")
# Batches smaller than this have statistics that are mostly noise.
_SMALLEST_BATCH = 4
# A batch of them sets the shifts and gains of a fresh network.
_CALIBRATION_IMAGES = 512


def train(
    settings: RunSettings,
    output: str | os.PathLike,
    progress: keras.callbacks.Callback | None = None,
    *,
    resume: bool = False,
    strategy: str = "none",
) -> Run:
    """Trains a network and leaves a run folder; the same seed gives the same weights.

    The folder holds `model.keras`, `history.csv`, `run.json`, TensorBoard files under
    `logs/`, and `curves.png` if matplotlib is there; further runs in `stage1/` and
    `teacher/` if the recipe has those. After each epoch a checkpoint is written, from
    which a run that was stopped goes on; one that is stopped before the first leaves
    nothing.

    Arguments:
        settings: What to train, and how.
        output: The run folder; it may exist, but must be empty, or resumed.
        progress: A Keras callback that watches the run, such as a progress bar.
        resume: Whether to go on with an unfinished run of the same settings in
            `output`. A finished one is returned as it is, and where there is none, one
            begins.
        strategy: `"none"`, `"mirrored"` over all GPUs of this machine, or
            `"multi_worker"` over the machines that the variable TF_CONFIG names.

    Returns:
        The finished run.

    Raises:
        FileExistsError: If `output` is not empty.
        FileNotFoundError: If the data set is not prepared.
        NonFiniteLoss: If the loss becomes infinite or NaN; says where.
        ValueError: If the network does not fit the data, or an unfinished run in
            `output` has other settings.

    Example:
        ```python
        import larq_nobn as nobn

        settings = nobn.training.RunSettings.from_recipe(
            dataset="digits", width=32, blocks=(4, 4), epochs=5
        )
        run = nobn.training.train(settings, "runs/digits")
        ```
    """
    _warn_of_small_batches(settings)
    said = _as_json(settings)
    if resume and is_finished(output, said):
        return load_run(output)
    with stoppable() as check, claimed(output, said, resume) as folder:
        before = None
        if settings.stages == 2:
            first = _first_stage(settings)
            before = train(first, folder / "stage1", progress, resume=resume).model
        return _train(settings, folder, progress, before, check)


def _as_json(settings: RunSettings) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(settings)))


def _first_stage(settings: RunSettings) -> RunSettings:
    """The same with real-valued kernels, which a kernel quantizer has no part in."""
    return replace(
        settings,
        stages=1,
        kernel=None,
        weight_decay=settings.stage_one_decay,
        network={**settings.network, "binary_weights": False},
    )


def _train(
    settings: RunSettings,
    folder: Path,
    progress: keras.callbacks.Callback | None,
    before: keras.Model | None,
    check: StopCheck,
) -> Run:
    keras.utils.set_random_seed(settings.seed)
    images, test_images = (_load(settings, split) for split in ("train", "test"))
    schedule = schedule_for(settings, len(images))
    with dtype_policy(settings.precision), own_generators():
        network = _build(settings)
        _begin(network, settings, before)
        _compile(network, optimizer_for(settings, schedule, network))
        trainee = Trainee(network, settings.accumulate)
        _compile(trainee, network.optimizer)
    journal = Journal(folder / "history.csv", schedule, len(images))
    checkpoints = Checkpoints(
        folder / CHECKPOINTS, _as_json(settings), {"journal": journal}
    )
    begun = checkpoints.restore(network)
    if begun:
        images = _load(settings, "train", begun)
    watchers = [check, Reseeding(settings.seed), *_movers(network)]
    watchers += monitors(settings, network, folder / "logs")
    watchers += [journal, *_tensorboard(folder / "logs")]
    if progress is not None:
        watchers.append(progress)
    trainee.fit(
        images,
        epochs=settings.epochs,
        initial_epoch=begun,
        validation_data=test_images,
        callbacks=[*watchers, checkpoints],
        verbose=0,
    )
    record = run_record(settings, network, journal.rows)
    save_model(network, folder / "model.keras")
    title = f"{settings.model}, {settings.normalization}, {settings.dataset}"
    draw_curves(folder / "curves.png", title, journal.rows)
    write_json(folder / "run.json", record)  # last: its presence means finished
    return Run(folder, network, journal.rows, record)


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
        calibrate(network, _load(replace(settings, batch_size=few), "train").take(1))


def _movers(network: keras.Model) -> list[keras.callbacks.Callback]:
    """What changes the network from epoch to epoch."""
    has_tau = any(isinstance(each, ReCU) for each in network.submodules)
    return [TauScheduler()] if has_tau else []


def _warn_of_small_batches(settings: RunSettings) -> None:
    small = settings.batch_size < _SMALLEST_BATCH
    if small and settings.normalization in models.BATCH_STATISTICS:
        free = [n for n in models.NORMALIZATIONS if n not in models.BATCH_STATISTICS]
        _log.warning(
            "normalization=%r takes its statistics from batches, and those of "
            "batch_size=%d are mostly noise. Use %d images a batch or more, or one of "
            "%s, which do not look at the batch.",
            settings.normalization,
            settings.batch_size,
            _SMALLEST_BATCH,
            ", ".join(free),
        )


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
    network = models.BUILDERS[settings.model](
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


def _tensorboard(logs: Path) -> list[keras.callbacks.Callback]:
    if find_spec("tensorboard") is None:
        _log.warning(
            "logs/ is left out because tensorboard is not installed; "
            "pip install 'larq_nobn[plots]' brings it."
        )
        return []
    # Without the graph and without a profile: they take longer than small epochs.
    return [keras.callbacks.TensorBoard(logs, write_graph=False, profile_batch=0)]
