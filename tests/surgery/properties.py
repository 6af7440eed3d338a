"""What tests look at in a model before and after surgery, whatever the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.graph._models import flattened
from larq_nobn.layers import BatchKalmanNormalization
from numpy.testing import assert_array_equal


@lru_cache(maxsize=2)
def flat(model: keras.Model) -> keras.Model:
    """A model as one graph of what inference computes: a copy, unless it is one."""
    opened = (keras.Model, BatchKalmanNormalization)
    copied = any(isinstance(layer, opened) for layer in model.layers)
    return flattened(model) if copied else model


def inputs_of(model: keras.Model, count: int = 24) -> list[np.ndarray]:
    """Noise for every input of a model."""
    rng = np.random.default_rng(3)
    noise = [rng.normal(size=(count, *x.shape[1:])) for x in model.inputs]
    return [
        y.astype(x.dtype.as_numpy_dtype)
        for y, x in zip(noise, model.inputs, strict=True)
    ]


def outputs_of(model: keras.Model, x: list[np.ndarray], training: bool = False):
    """Every output as a matrix of one row per example."""
    actual = tf.nest.flatten(model(x, training=training))
    return [np.reshape(y, (len(x[0]), -1)) for y in actual]


@contextmanager
def untouched(model: keras.Model) -> Iterator[None]:
    """Checks that what is done inside leaves a model as it was."""
    x = inputs_of(model, 4)
    # A gradient step's worth of state in the optimizer.
    model.compile(keras.optimizers.Adam(0.0), "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    before, values = _state(model), _values(model, x)
    yield
    assert _state(model) == before
    for was, now in zip(values, _values(model, x), strict=True):
        assert_array_equal(was, now)


def _state(model: keras.Model) -> dict[str, Any]:
    actual = [part for part in model.submodules if isinstance(part, keras.layers.Layer)]
    return {
        "layers": [
            (id(layer), layer.name, layer.trainable, layer.dtype_policy.name)
            for layer in actual
        ],
        "nodes": [
            (len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in actual
        ],
        "weights": [(id(weight), weight.name) for weight in model.weights],
        "trainable": [weight.name for weight in model.trainable_weights],
        "compiled": (id(model.optimizer), id(model.compiled_loss)),
        "config": str(model.get_config()),
        "scope": lq.context.should_quantize(),
        "policy": keras.mixed_precision.global_policy().name,
    }


def _values(model: keras.Model, x: list[np.ndarray]) -> list[np.ndarray]:
    variables = [*model.weights, *model.optimizer.variables]
    return [variable.numpy() for variable in variables] + outputs_of(model, x)
