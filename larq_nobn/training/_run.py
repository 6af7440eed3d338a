"""A training run: from settings to a folder."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path

import tensorflow as tf

from .. import data, models
from .._keras import dtype_policy, keras
from ..optimizers import AdaptiveGradientClipping
from ._curves import draw_curves
from ._files import claimed, save_model, write_json
from ._journal import Journal, run_record
from ._opening import Run
from ._settings import RunSettings

_log = logging.getLogger("larq_nobn")
# Batches smaller than this have statistics that are mostly noise.
_SMALLEST_BATCH = 4


def train(
    settings: RunSettings,
    output: str | os.PathLike,
    progress: keras.callbacks.Callback | None = None,
) -> Run:
    """Trains a network and leaves a run folder; the same seed gives the same weights.

    The folder holds `model.keras`, `history.csv`, `run.json`, TensorBoard files under
    `logs/`, and `curves.png` if matplotlib is there. A run that fails or is interrupted
    leaves nothing.

    Arguments:
        settings: What to train, and how.
        output: The run folder; it may exist, but must be empty.
        progress: A Keras callback that watches the run, such as a progress bar.

    Returns:
        The finished run.

    Raises:
        FileExistsError: If `output` is not empty.
        FileNotFoundError: If the data set is not prepared.
        ValueError: If the network does not fit the data.

    Example:
        ```python
        import larq_nobn as nobn

        settings = nobn.training.RunSettings(
            dataset="digits", width=32, blocks=(4, 4), epochs=5
        )
        run = nobn.training.train(settings, "runs/digits")
        ```
    """
    _warn_of_small_batches(settings)
    with claimed(output) as folder:
        keras.utils.set_random_seed(settings.seed)
        images, test_images = (_load(settings, split) for split in ("train", "test"))
        steps = len(images)
        schedule = keras.optimizers.schedules.PolynomialDecay(
            settings.learning_rate, steps * settings.epochs, end_learning_rate=0.0
        )
        with dtype_policy(settings.precision):
            model = _build(settings)
            _compile(model, _optimizer(settings, schedule))
        journal = Journal(folder / "history.csv", schedule, steps)
        watchers = [journal, *_tensorboard(folder / "logs")]
        model.fit(
            images,
            epochs=settings.epochs,
            validation_data=test_images,
            callbacks=watchers if progress is None else [*watchers, progress],
            verbose=0,
        )
        record = run_record(settings, model, journal.rows)
        save_model(model, folder / "model.keras")
        title = f"{settings.model}, {settings.normalization}, {settings.dataset}"
        draw_curves(folder / "curves.png", title, journal.rows)
        write_json(folder / "run.json", record)  # last: its presence means finished
    return Run(folder, model, journal.rows, record)


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


def _load(settings: RunSettings, split: str) -> tf.data.Dataset:
    return data.load(
        settings.dataset,
        split,
        settings.batch_size,
        seed=settings.seed,
        limit=settings.limit,
        data_dir=settings.data_dir,
    )


def _build(settings: RunSettings) -> keras.Model:
    info = data.describe(settings.dataset)
    chosen = {"width": settings.width, "blocks": settings.blocks}
    return models.BUILDERS[settings.model](
        info.image_shape,
        info.classes,
        normalization=settings.normalization,
        **{name: value for name, value in chosen.items() if value is not None},
    )


def _optimizer(
    settings: RunSettings,
    learning_rate: keras.optimizers.schedules.LearningRateSchedule,
) -> keras.optimizers.Optimizer:
    adam = keras.optimizers.Adam(learning_rate)
    if settings.clip_factor == 0:
        return adam
    return AdaptiveGradientClipping(adam, clip_factor=settings.clip_factor)


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
