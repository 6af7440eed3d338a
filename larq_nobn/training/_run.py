"""A training run, with those that it needs before it: from settings to a folder."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, replace
from pathlib import Path

from .. import data, models
from .._keras import keras
from ._fit import Circumstances, fit
from ._folder import claimed, is_finished
from ._opening import Run, load_run, open_model
from ._settings import RunSettings
from ._step import Probabilities
from ._stopping import stoppable
from ._teacher import probabilities_of, teacher_settings

_log = logging.getLogger("larq_nobn")
# Batches smaller than this have statistics that are mostly noise.
_SMALLEST_BATCH = 4


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
    with stoppable() as check:
        around = Circumstances(progress, check, resume)
        return _run(settings, Path(output), None, around)


def _run(
    settings: RunSettings,
    output: Path,
    teacher: Probabilities | None,
    around: Circumstances,
) -> Run:
    """Trains what comes before, if anything, and then the network itself."""
    said = json.loads(json.dumps(asdict(settings)))
    if around.resume and is_finished(output, said):
        return load_run(output)
    with claimed(output, said, around.resume) as folder:
        if settings.teacher is not None and teacher is None:
            teacher = _teacher(settings, folder, around)
        before = None
        if settings.stages == 2:
            first = _first_stage(settings)
            before = _run(first, folder / "stage1", teacher, around).model
        return fit(settings, folder, before, teacher, around)


def _teacher(
    settings: RunSettings, folder: Path, around: Circumstances
) -> Probabilities:
    """Trains the teacher or opens it."""
    info = data.describe(settings.dataset)
    if settings.teacher == "train":
        name = f"{folder / 'teacher'}"
        model = _run(teacher_settings(settings), Path(name), None, around).model
    else:
        name = str(settings.teacher)
        model = open_model(name)
    return probabilities_of(model, name, info.image_shape, info.classes)


def _first_stage(settings: RunSettings) -> RunSettings:
    """The same with real-valued kernels, which a kernel quantizer has no part in."""
    return replace(
        settings,
        stages=1,
        kernel=None,
        weight_decay=settings.stage_one_decay,
        network={**settings.network, "binary_weights": False},
    )


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
