"""What must contain of a model before and after surgery, whatever the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.graph import (
    MARGIN,
    Graph,
    calls,
    flattened,
    is_binary_convolution,
    sign_in,
)
from larq_nobn.layers import BatchKalmanNormalization
from numpy.testing import assert_allclose, assert_array_equal
from surgery.parts import batch_norms


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
    found = tf.nest.flatten(model(x, training=training))
    return [np.reshape(y, (len(x[0]), -1)) for y in found]


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
    found = [part for part in model.submodules if isinstance(part, keras.layers.Layer)]
    return {
        "layers": [
            (id(layer), layer.name, layer.trainable, layer.dtype_policy.name)
            for layer in found
        ],
        "nodes": [
            (len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in found
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


def certain(model: keras.Model, x: list[np.ndarray]) -> np.ndarray:
    """The examples without a sign whose input is within rounding of 0."""
    copy = flat(model)
    found = [call for call in calls(copy) if sign_in(call) is not None]
    sure = np.full(len(x[0]), True)
    if not found:
        return sure
    inner = keras.Model(copy.inputs, [call.inputs for call in found])
    values = tf.nest.flatten(inner(x))
    for call, value in zip(found, values, strict=True):
        sign = sign_in(call)
        shift = getattr(sign, "shift", None)
        if shift is not None:
            value = sign.scale * value + shift
        distance = np.abs(np.reshape(value, (-1, value.shape[-1])))
        # An exact 0 is the sum of as many +1 as -1, or comes out of a ReLU.
        near = (distance < MARGIN * distance.max(axis=0)) & (distance > 0)
        sure &= ~np.any(near.reshape(len(sure), -1), axis=1)
    return sure


def check_equal(given: keras.Model, new: keras.Model, tolerance: float) -> None:
    """Both compute the same, except where rounding decides a sign."""
    x = inputs_of(given)
    sure = certain(given, x)
    assert sure.mean() > 0.5
    for wanted, found in zip(outputs_of(given, x), outputs_of(new, x), strict=True):
        magnitude = np.abs(wanted).max()
        assert_allclose(found[sure], wanted[sure], rtol=0, atol=tolerance * magnitude)


def check_exact(given: keras.Model, new: keras.Model, x: list[np.ndarray]) -> None:
    """Both compute the same in float64, where rounding decides no sign."""
    for was, now in zip(outputs_of(given, x), outputs_of(new, x), strict=True):
        assert np.abs(now - was).max() <= 1e-9 * np.abs(was).max()


def check_without_batch_norm(given: keras.Model, new: keras.Model) -> None:
    """No batch norm is left, and the binary convolutions and interfaces are."""
    assert batch_norms(new) == []
    assert new.name == given.name
    assert new.input_names == given.input_names
    assert not {id(part) for part in given.submodules} & {
        id(part) for part in new.submodules
    }
    assert not {id(weight) for weight in given.weights} & {
        id(weight) for weight in new.weights
    }
    for was, now in zip(given.outputs, new.outputs, strict=True):
        assert was.shape == now.shape and was.dtype == now.dtype
    # What surgery returns is flat: nothing inside an inner model would be counted.
    assert _binary(new) == _binary(flat(given))


def _binary(model: keras.Model) -> int:
    return sum(map(is_binary_convolution, Graph(model).calls))


def check_saved(model: keras.Model, path: Path) -> None:
    """It can be saved, and opened again with safe mode on."""
    model.save(path)
    reopened = keras.models.load_model(path)
    x = inputs_of(model, 4)
    for was, now in zip(outputs_of(model, x), outputs_of(reopened, x), strict=True):
        assert_array_equal(was, now)


def check_training(model: keras.Model) -> None:
    """It trains: the loss stays finite, and so do the weights, some of which move."""
    x = inputs_of(model, 8)
    weights = model.trainable_weights
    before = [weight.numpy() for weight in weights]
    with tf.GradientTape() as tape:
        found = tf.nest.flatten(model(x, training=True))
        loss = sum(tf.reduce_mean(part**2) for part in found)
    assert np.isfinite(loss)
    gradients = tape.gradient(loss, weights)
    for gradient, weight in zip(gradients, weights, strict=True):
        if gradient is not None:
            weight.assign_sub(1e-3 * tf.convert_to_tensor(gradient))
    assert all(np.isfinite(y).all() for y in outputs_of(model, x, training=True))
    after = [weight.numpy() for weight in weights]
    assert all(np.isfinite(weight).all() for weight in after)
    assert any(np.any(a != b) for a, b in zip(before, after, strict=True))


def check_independent(model: keras.Model) -> None:
    """In training, an example's output does not depend on the other examples."""
    x = inputs_of(model, 4)
    other = [np.concatenate([part[:1], 5 - 3 * part[1:]]) for part in x]
    found = []
    for batch in (x, other):
        keras.utils.set_random_seed(5)  # the same dropout
        found.append([y[0] for y in outputs_of(model, batch, training=True)])
    for was, now in zip(*found, strict=True):
        assert_allclose(now, was, rtol=0, atol=1e-5 * max(1e-3, np.abs(was).max()))


def check_report(given: keras.Model, report: nobn.surgery.SurgeryReport) -> None:
    """The report names every batch norm once, and is ready for JSON."""
    named = [change.layer for change in report.changes]
    assert len(set(named)) == len(named)
    assert {layer.name for layer in batch_norms(flat(given))} <= set(named)
    assert report.model == given.name
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def check_folded_twice(folded: keras.Model) -> None:
    """What has been folded is not changed any more."""
    again, report = nobn.fold_batch_norm(folded, return_report=True)
    assert report.changes == ()
    assert [x.name for x in again.layers] == [x.name for x in folded.layers]
    for was, now in zip(folded.get_weights(), again.get_weights(), strict=True):
        assert_array_equal(was, now)


@dataclass(frozen=True)
class Cost:
    """What a converted model costs: binary convolutions and float operations."""

    binary: int
    float_ops: dict[str, int]

    @classmethod
    def of(cls, model: keras.Model, path: Path, **kwargs: Any) -> Cost:
        report = nobn.convert(model, path, **kwargs)
        return cls(
            report.lce_bconv2d, {op["op"]: op["count"] for op in report.float_ops}
        )

    def total(self, *names: str) -> int:
        """How many float operations there are, of all kinds or of some."""
        return sum(self.float_ops.get(name, 0) for name in names or self.float_ops)

    def check(self, before: Cost) -> None:
        """It is as binary as before, and no float operation has been added."""
        assert self.binary == before.binary
        assert self.total() <= before.total()
        assert self.total("MUL") <= before.total("MUL")
        assert self.total("MUL", "ADD", "SUB") <= before.total("MUL", "ADD", "SUB")
