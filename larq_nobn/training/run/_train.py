"""A training run, with those that it needs before it: from settings to a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..._checks import check_bounds, check_choice, check_path
from ..._keras import keras
from ...data import CACHES, GIVEN, content_of, describe, handed_over, reading
from ..folder import Run, claimed, is_finished, load_run, open_model, plain
from ..settings import RunSettings
from ..start import settled
from ._fit import Circumstances, fit
from ._step import Probabilities
from ._stopping import ending_surely, stoppable
from ._strategy import (
    WAIT,
    check_shares,
    has_workers,
    is_chief,
    strategy_for,
    with_all_workers,
)
from ._teacher import probabilities_of, teacher_settings
from ._warnings import warn_of_imitation, warn_of_small_batches


def train(
    settings: RunSettings,
    output: str | os.PathLike,
    progress: keras.callbacks.Callback | None = None,
    *,
    resume: bool = False,
    strategy: str = "none",
    data: tuple[Any, Any] | None = None,
    checkpoint_steps: int | None = None,
    cache: str = "auto",
    trust: bool = False,
    wait: float = WAIT,
) -> Run:
    """Trains a network and leaves a run folder; the same seed gives the same weights.

    The folder holds `model.keras`, `history.csv`, `run.json`, TensorBoard files under
    `logs/`, and `curves.png` if matplotlib is there; further runs in `stage1/` and
    `teacher/` if the recipe has those. After each epoch, and every ten minutes within
    one, a checkpoint is written, from which a run that was stopped goes on; one that is
    stopped before the first leaves nothing.

    Arguments:
        settings: What to train, and how.
        output: The run folder; it may exist, but must be empty, or resumed.
        progress: A Keras callback that watches the run, such as a progress bar.
        resume: Whether to go on with an unfinished run of the same settings in
            `output`. A finished one is returned as it is, and where there is none, one
            begins.
        strategy: `"none"`, `"mirrored"` over all GPUs of this machine, or
            `"multi_worker"` over the machines that the variable TF_CONFIG names.
        data: Images for training and for testing, in place of a data set: twice
            (images, labels), as arrays of bytes, which are treated as a data set is, or
            of floats, which are normalized already; or twice a `tf.data.Dataset` of
            (images, labels), each pass of which is an epoch, taken as it comes. The
            dataset of the settings is then `"given"`. To resume, give the same again;
            a `tf.data.Dataset` has to be the same in each pass for that.
        checkpoint_steps: Write a checkpoint every so many steps of an epoch, instead of
            every ten minutes. It has no influence on the weights.
        cache: Where decoded pictures are kept, as in `larq_nobn.data.load`. Nor has it.
        trust: Whether code from the files of `init` and of a teacher may run, as in
            `open_model`. For files of your own.

        wait: Seconds after which a worker of `"multi_worker"` gives up the others, if
            they are not there.

    Returns:
        The finished run.

    Raises:
        FileExistsError: If `output` is not empty.
        FileNotFoundError: If the data set is not prepared, or the network that the run
            starts from is not there.
        RunInUse: If another process trains in `output`.
        ConnectionError: If another worker has stopped, or is not there in time.
        NonFiniteLoss: If the loss becomes infinite or NaN; says where.
        OSError: If a picture cannot be read any more; names it.
        ValueError: If the network does not fit the data, an unfinished run in `output`
            has other settings, the replicas cannot share a batch evenly, or no weight
            of `init` fits.

    Example:
        ```python
        import larq_nobn as nobn

        settings = nobn.training.RunSettings.from_recipe(
            dataset="digits", width=32, blocks=(4, 4), epochs=5
        )
        run = nobn.training.train(settings, "runs/digits")
        ```
    """
    check_path("output", output)
    if data is not None:
        settings = replace(settings, dataset=GIVEN)
    settings = settled(settings, Path(output), resume, trust)
    with stoppable():
        replicas = strategy_for(strategy, wait)
    check_shares(replicas, settings.batch_size, settings.accumulate)
    if checkpoint_steps is not None:
        check_bounds("checkpoint_steps", checkpoint_steps)
    check_choice("cache", cache, CACHES)
    warn_of_small_batches(settings, replicas.num_replicas_in_sync)
    warn_of_imitation(settings.precision)
    surely = ending_surely() if has_workers(replicas) else nullcontext()
    with (
        stoppable() as check,
        surely,
        with_all_workers(),
        handed_over(data),
        reading(),
    ):
        around = Circumstances(
            progress, check, resume, replicas, checkpoint_steps, cache, trust
        )
        return _run(settings, Path(output), None, around)


def _run(
    settings: RunSettings,
    output: Path,
    teacher: Probabilities | None,
    around: Circumstances,
) -> Run:
    """Trains what comes before, if anything, and then the network itself."""
    said = plain(settings)
    if around.resume and is_finished(output, said):
        return load_run(output, around.trust)
    with _place(output, said, content_of(**settings.images), around) as folder:
        if settings.teacher is not None and teacher is None:
            teacher = _teacher(settings, output, around)
        before = None
        if settings.stages == 2:
            first = _first_stage(settings)
            before = _run(first, output / "stage1", teacher, around).model
        return fit(settings, output, folder, before, teacher, around)


@contextmanager
def _place(
    output: Path, settings: dict[str, Any], pictures: str | None, around: Circumstances
) -> Iterator[Path]:
    """Where a process writes: of all workers one in the run folder, the others away."""
    if is_chief(around.strategy):
        with claimed(output, settings, around.resume, pictures) as folder:
            yield folder
    else:
        with TemporaryDirectory() as name:
            yield Path(name)


def _teacher(
    settings: RunSettings, output: Path, around: Circumstances
) -> Probabilities:
    """Trains the teacher or opens it."""
    info = describe(**settings.images)
    if settings.teacher == "train":
        name = str(output / "teacher")
        trained = _run(teacher_settings(settings), Path(name), None, around).model
        # A copy, in which all replicas see the same statistics of batch norm.
        with around.strategy.scope():
            model = keras.models.clone_model(trained)
        model.set_weights(trained.get_weights())
    else:
        name = str(settings.teacher)
        with around.strategy.scope():
            model = open_model(name, trust=around.trust)
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
