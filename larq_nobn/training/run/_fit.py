"""Trains one network and writes its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tensorflow as tf

from ..._keras import keras
from ..folder import (
    CHECKPOINTS,
    START,
    Checkpoints,
    Journal,
    Run,
    Stateful,
    finished,
    plain,
)
from ..settings import RunSettings
from ..start import Beginning
from ._diagnosis import Watch, explained
from ._images import images_of, watched_split
from ._optimizer import schedule_for
from ._start import started
from ._step import Probabilities, Trainee
from ._stopping import StopCheck
from ._strategy import is_chief, shared
from ._watchers import watchers
from ._within import EpochMetrics, Pace


@dataclass(frozen=True)
class Circumstances:
    """What a run takes place under, without an influence on its weights.

    Arguments:
        progress: A callback that watches, if any.
        check: Raises if the process was asked to stop.
        resume: Whether an unfinished run goes on.
        strategy: The devices, and the workers of which this process is one.
        checkpoint_steps: Steps between checkpoints within an epoch; None for every ten
            minutes.
        cache: Where decoded pictures are kept.
        trust: Whether code from model files may run, those of `init` and a teacher.
    """

    progress: keras.callbacks.Callback | None
    check: StopCheck
    resume: bool
    strategy: tf.distribute.Strategy
    checkpoint_steps: int | None
    cache: str
    trust: bool


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
    cache = around.cache
    of_split = partial(images_of, settings, cache=cache)
    watched_on = watched_split(settings)
    images, held_out = of_split("train"), of_split(watched_on)
    steps = len(images)
    schedule = schedule_for(settings, steps)
    network, trainee = started(
        settings, schedule, before, teacher, around.strategy, cache, around.trust
    )

    journal = Journal(folder / "history.csv", schedule, steps)
    watched = watchers(settings, network, journal, folder, cache)
    beginning = Beginning(settings, before is None, around.trust)
    checkpoints = Checkpoints(
        output / CHECKPOINTS,
        plain(settings),
        {"journal": journal, **beginning.stateful},
        _within(trainee, journal, watched),
        Pace(around.checkpoint_steps, around.strategy),
        writes=is_chief(around.strategy),
    )
    begun = checkpoints.restore(network)
    if begun != START:
        images = of_split("train", begun)
        trainee.first_step = begun.steps
    else:
        with around.strategy.scope():
            beginning.fill(network)

    watch = Watch()
    callbacks = [around.check, watch, *watched]
    if around.progress is not None:
        callbacks.append(around.progress)
    replicas = around.strategy
    of_train, of_held_out = (
        partial(of_split, "train", begun),
        partial(of_split, watched_on, START),
    )
    with explained(settings, network, watch, checkpoints):
        trainee.fit(
            shared(images, of_train, replicas),
            steps_per_epoch=steps,
            epochs=settings.epochs,
            initial_epoch=begun.epochs,
            validation_data=shared(held_out, of_held_out, replicas),
            validation_steps=len(held_out),
            callbacks=[*callbacks, checkpoints],
            verbose=0,
        )
    last = journal.rows[-1]
    tested = {"loss": last["val_loss"], "accuracy": last["val_accuracy"]}
    if watched_on == "validation":  # the test images are read once, now
        images = of_split("test")
        tested = trainee.evaluate(
            shared(images, partial(of_split, "test", START), replicas),
            steps=len(images),
            verbose=0,
            return_dict=True,
        )
    record = finished(
        folder, settings, network, journal.rows, beginning.record, watched_on, tested
    )
    return Run(output, network, journal.rows, record)


def _within(
    trainee: Trainee, journal: Journal, watched: Sequence[keras.callbacks.Callback]
) -> dict[str, Stateful]:
    """What every epoch begins anew, and a checkpoint within one has to keep."""
    found = [each for each in watched if isinstance(each, Stateful)]
    return {
        "metrics": EpochMetrics(trainee),
        "stopwatch": journal.stopwatch,
        **{type(each).__name__: each for each in found if each is not journal},
    }
