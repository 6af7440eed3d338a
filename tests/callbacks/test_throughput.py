"""Images per second on a clock that only stands still or moves as the test says."""

import larq_nobn.callbacks._throughput as module
import pytest
from callback_networks import IMAGES, LABELS, fit, head
from callback_networks import compiled as network_of
from larq_nobn._keras import keras
from larq_nobn.callbacks import ThroughputMonitor

FIRST, STEP, VALIDATION, PAUSE = 1000.0, 0.5, 70.0, 300.0


class Clock(keras.callbacks.Callback):
    """Stands before the monitor: steps take their time, and so does all else."""

    def __init__(self):
        super().__init__()
        self.now = 12345.0

    def __call__(self):
        return self.now

    def on_epoch_begin(self, epoch, logs=None):
        self.now += PAUSE
        self.compiles = True

    def on_train_batch_end(self, batch, logs=None):
        self.now += FIRST if self.compiles else STEP
        self.compiles = False

    def on_test_batch_end(self, batch, logs=None):
        self.now += VALIDATION


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "perf_counter", clock)
    return clock


def compiled(**arguments):
    """One layer: the clock does not ask what is computed."""
    return network_of(
        lambda layer: keras.Sequential([keras.Input((6,)), head()]), "sgd", **arguments
    )


def throughput(clock, monitor=None, model=None, **arguments):
    monitor = monitor or ThroughputMonitor(batch_size=4)
    history = fit(model or compiled(), clock, monitor, **arguments)
    return history["images_per_second"]


def test_steps_after_the_first(clock):
    monitor = ThroughputMonitor(batch_size=32)  # of all replicas
    assert throughput(clock, monitor, epochs=3) == [3 * 32 / (3 * STEP)] * 3


def test_validation_does_not_count(clock):
    arguments = {"validation_data": (IMAGES, LABELS), "validation_freq": 2}
    assert throughput(clock, **arguments, epochs=3) == [4 / STEP] * 3


def test_an_epoch_of_one_step_is_taken_whole(clock):
    assert throughput(clock, steps_per_epoch=1) == [4 / FIRST] * 2


def test_calls_of_several_steps(clock):
    model = compiled(steps_per_execution=2, run_eagerly=True)
    assert throughput(clock, model=model) == [2 * 4 / STEP] * 2
    model = compiled(steps_per_execution=4, run_eagerly=True)
    assert throughput(clock, model=model) == [4 * 4 / FIRST] * 2


def test_a_batch_has_images():
    with pytest.raises(ValueError, match="batch_size=0 is below 1. Give the images"):
        ThroughputMonitor(0)
