"""Which monitors a run has, and what they leave in its files."""

from __future__ import annotations

import pytest
from larq_nobn import training
from callback_networks import binary, compiled
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.callbacks import (
    BinaryWeightMonitor,
    GradientClippingMonitor,
    MemoryMonitor,
    ThroughputMonitor,
)
from larq_nobn.training._callbacks import monitors

RECIPE = training.Recipe(batch_size=4)
ALWAYS = {ThroughputMonitor, MemoryMonitor}


def real(**arguments: str) -> keras.layers.Layer:
    return keras.layers.Dense(5, **arguments)


@pytest.mark.parametrize("layer, clips", [(binary, False), (real, True)])
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
