"""Which monitors a run has, and what they leave in its files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import training
from callback_networks import IMAGES, LABELS, binary, compiled, fit, scalars
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.callbacks import (
    BinaryWeightMonitor,
    GradientClippingMonitor,
    MemoryMonitor,
    ThroughputMonitor,
)
from larq_nobn.optimizers import AdaptiveGradientClipping
from larq_nobn.training._callbacks import HistoryWriter, monitors

RECIPE = training.Recipe(batch_size=4)
ALWAYS = {ThroughputMonitor, MemoryMonitor}


def real(**arguments: str) -> keras.layers.Layer:
    return keras.layers.Dense(5, **arguments)


@pytest.mark.parametrize("clips", [True, False])
@pytest.mark.parametrize("layer", [binary, real])
def test_those_that_apply(layer: type, clips: bool):
    model = compiled(layer=layer, optimizer=None if clips else "sgd")
    found = monitors(RECIPE, model, None)
    expected = {GradientClippingMonitor} if clips else set()
    expected |= {BinaryWeightMonitor} if layer is binary else set()
    assert {type(each) for each in found} == ALWAYS | expected
    assert type(found[0]) is ThroughputMonitor  # its clock stops before others look
    assert found[0].batch_size == 4
    assert all(each.log_dir is None for each in found)


def test_clipping_is_found_after_loss_scaling():
    with dtype_policy("mixed_float16"):
        found = monitors(RECIPE, compiled(), None)
    assert GradientClippingMonitor in {type(each) for each in found}


def clipping() -> AdaptiveGradientClipping:
    """Clips some units, and not always the same."""
    return AdaptiveGradientClipping(keras.optimizers.SGD(0.5), 0.5)


class Keep(keras.callbacks.Callback):
    """Remembers the weights after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.weights.append(self.model.get_weights())


@pytest.mark.slow
def test_what_they_see_is_written_and_continues_after_an_interruption(tmp_path: Path):
    model, keep = compiled(optimizer=clipping()), Keep()
    watched = monitors(RECIPE, model, tmp_path / "logs")
    journal = HistoryWriter(
        tmp_path / "history.csv", {0: 0.1, 4: 0.2, 8: 0.3}.get, steps=4
    )
    undisturbed = fit(
        model, *watched, journal, keep, epochs=3, validation_data=(IMAGES, LABELS)
    )
    with (tmp_path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    written = scalars(tmp_path / "logs")
    deterministic = ("flip_ratio", "dead_weight_ratio", "clipped_share")
    for name in (*deterministic, "images_per_second", "peak_memory_mib"):
        values = undisturbed[name]
        assert len(values) == 3 and np.isfinite(values).all()
        assert [float(row[name]) for row in rows] == values
        assert list(written[name].values()) == pytest.approx(values, rel=1e-6)
    assert {"flip_ratio/binary", "clipped_share/binary"} <= set(written)
    for name in deterministic:
        assert len(set(undisturbed[name])) == 3  # so that epochs cannot be mixed up
    # Other monitors, as in another process, on the weights of the first epoch.
    again = compiled(optimizer=clipping())
    again.set_weights(keep.weights[0])
    resumed = fit(again, *monitors(RECIPE, again, None), initial_epoch=1, epochs=3)
    for name in deterministic:
        assert resumed[name] == undisturbed[name][1:]
