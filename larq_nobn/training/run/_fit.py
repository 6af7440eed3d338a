"""Trains one network and writes its run folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tensorflow as tf

from ..._keras import keras
from ..folder import CHECKPOINTS, Checkpoints, Journal, Run, finished, plain
from ..settings import RunSettings
from ..start import Beginning
from ._diagnosis import Watch, explained
from ._images import images_of
from ._optimizer import schedule_for
from ._start import started
from ._step import Probabilities
from ._stopping import StopCheck
from ._strategy import is_chief, shared
from ._watchers import watchers


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
    images, test_images = (images_of(settings, split) for split in ("train", "test"))
    schedule = schedule_for(settings, len(images))
    network, trainee = started(settings, schedule, before, teacher, around.strategy)

    journal = Journal(folder / "history.csv", schedule, len(images))
    beginning = Beginning(settings, applies=before is None)
    checkpoints = Checkpoints(
        output / CHECKPOINTS,
        plain(settings),
        {"journal": journal, **beginning.stateful},
        writes=is_chief(around.strategy),
    )
    begun = checkpoints.restore(network)
    if begun:
        images = images_of(settings, "train", begun)
    else:
        with around.strategy.scope():
            beginning.fill(network)

    watch = Watch()
    callbacks = [around.check, watch, *watchers(settings, network, journal, folder)]
    if around.progress is not None:
        callbacks.append(around.progress)
    again = partial(images_of, settings, "train")
    with explained(settings, network, watch, output, again):
        trainee.fit(
            shared(images, around.strategy),
            steps_per_epoch=len(images),
            epochs=settings.epochs,
            initial_epoch=begun,
            validation_data=shared(test_images, around.strategy),
            validation_steps=len(test_images),
            callbacks=[*callbacks, checkpoints],
            verbose=0,
        )
    record = finished(folder, settings, network, journal.rows, beginning.record)
    return Run(output, network, journal.rows, record)
