"""Runs that are compared with each other, at little cost."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.training import _network, _run_folder
from larq_nobn.training._run_settings import NETWORKS

# What a clock or the system says.
_MEASURED = ("seconds", "images_per_second", "peak_")


def history_of(folder: Path) -> list[dict[str, str]]:
    """The rows of `history.csv`, without what is measured anew each time."""
    with (folder / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        {name: row[name] for name in row if not name.startswith(_MEASURED)}
        for row in rows
    ]


def assert_same(ours: training.Run, theirs: training.Run) -> None:
    """Weights, state of the optimizer and history are equal bitwise identical."""
    states = [
        [*run.model.weights, *run.model.optimizer.variables] for run in (ours, theirs)
    ]
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), a.name)
    assert history_of(ours.folder) == history_of(theirs.folder)


class Stop(Exception):
    """Stands for whatever ends a run."""


class StopAt(keras.callbacks.Callback):
    """Stops in the middle of an epoch, counting from 0."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch
        self.begun: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.begun.append(epoch)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if self.begun[-1] == self._epoch and batch == 0:
            raise Stop


def stop_and_resume(
    settings: training.RunSettings, folder: Path, *epochs: int
) -> training.Run:
    """Runs with a stop in each of these epochs, and then to the end."""
    for epoch in epochs:
        with pytest.raises(Stop):
            training.train(settings, folder, StopAt(epoch), resume=True)
    watcher = StopAt(settings.epochs)
    run = training.train(settings, folder, watcher, resume=True)
    assert watcher.begun == list(range(epochs[-1], settings.epochs))
    return run


@contextmanager
def step_by_step() -> Iterator[None]:
    """Takes steps as they come: of a few of them, a graph takes longer."""
    compile_ = _network.compile_network

    def eagerly(model: keras.Model, *arguments: object) -> None:
        model.compile = partial(model.compile, run_eagerly=True)
        compile_(model, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_network, "compile_network", eagerly)
        yield


@contextmanager
def without_curves() -> Iterator[None]:
    """Leaves an empty image of a run, a true one of which takes a third of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_run_folder, "draw_curves", lambda target, *_: target.touch())
        yield


def little(
    input_shape: tuple[int, ...],
    classes: int,
    normalization: str,
    width: int = 4,
    blocks: tuple[int, ...] = (1,),
    binary_weights: bool = True,
    **_: object,
) -> keras.Model:
    """Gathers whatever can be: random draws, averages, schedules, flips, metrics."""
    x = image = keras.Input(input_shape)
    x = keras.layers.Flatten()(x)
    x = nobn.layers.IndependentComponent(0.1, name="first_norm")(x)
    quantizer = nobn.quantizers.ReCU() if binary_weights else None
    x = lq.layers.QuantDense(width, kernel_quantizer=quantizer, name="binary")(x)
    x = keras.layers.BatchNormalization(name="second_norm")(x)
    x = keras.layers.Dropout(0.3)(x)
    x = nobn.quantizers.ProgressiveSign(shift=False, name="progressive")(x)
    x = nobn.layers.SignFlipDropout(0.3)(x)
    return keras.Model(image, keras.layers.Dense(classes, name="head")(x))


# It stands in for one that takes more.
little.__signature__ = inspect.signature(nobn.models.ReActNet18)


@contextmanager
def with_little_network() -> Iterator[None]:
    """Takes that network, step by step."""
    with step_by_step(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "ReActNet18", little)
        yield


@pytest.fixture
def eager() -> Iterator[None]:
    """For runs of a few steps, which a graph would take longer to be made for."""
    with step_by_step(), without_curves():
        yield


@pytest.fixture
def little_network() -> Iterator[None]:
    """For runs of which nobody looks at the network."""
    with with_little_network(), without_curves():
        yield
