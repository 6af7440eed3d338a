"""Builds the model that a plan describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call, rebuild, replace_layers
from ...layers import ChannelAffine
from ...quantizers import RSign
from .._linear import Linear, latent
from ._plan import Affine, Plan, Shift

_CONSTRAINTS = {
    "kernel": "kernel_constraint",
    "depthwise_kernel": "depthwise_constraint",
    "pointwise_kernel": "pointwise_constraint",
    "bias": "bias_constraint",
}


def build(model: keras.Model, plan: Plan) -> keras.Model:
    """Returns a new model of new layers; the given one is not touched."""
    builder = _Builder(plan)
    with lq.context.quantized_scope(False):
        built = replace_layers(model, builder.replacement)
        for fill in builder.fills:
            fill()
    return built


class _Builder:
    def __init__(self, plan: Plan):
        self.plan = plan
        self.fills: list[Callable[[], None]] = []

    def replacement(self, call: Call) -> keras.layers.Layer | None:
        """The new layer of a call; its weights come once the graph has built it."""
        name, plan = call.name, self.plan
        if name in plan.dropped:
            return None
        if name in plan.affine:
            return self._affine(plan.affine[name])
        layer = plan.moved.get(name, call.layer)
        linear, shift = plan.edited(layer.name), plan.signs.get(layer.name)
        if shift is not None and not hasattr(layer, "input_quantizer"):
            return self._sign(layer.name, shift)
        changes = {} if linear is None else _arguments(linear)
        if shift is not None:
            changes["input_quantizer"] = self._sign("rsign", shift)
        new = rebuild(layer, **changes)
        self.fills.append(lambda: _fill(new, layer, linear, shift is not None))
        return new

    def _affine(self, affine: Affine) -> keras.layers.Layer:
        new = ChannelAffine(
            name=affine.name, dtype=affine.dtype, trainable=affine.scaling.trainable
        )
        self.fills.append(lambda: _assign(new.gamma, affine.scaling.gain))
        self.fills.append(lambda: _assign(new.beta, affine.scaling.bias))
        return new

    def _sign(self, name: str, shift: Shift) -> RSign:
        new = RSign(
            shift.scale,
            shift.estimator,
            power=shift.power,
            name=name,
            dtype=shift.dtype,
            trainable=shift.trainable,
        )
        self.fills.append(lambda: _assign(new.shift, shift.values))
        return new


def _assign(variable: Any, value: np.ndarray) -> None:
    latent(variable).assign(value)


def broken_constraints(linear: Linear) -> list[str]:
    """The constraints of a layer that only its old weights obeyed."""
    found = []
    for name, value in linear.given().values().items():
        constraint = getattr(linear.layer, _CONSTRAINTS[name])
        if constraint is None or not _obeys(constraint, value):
            continue
        if not _obeys(constraint, linear.values()[name]):
            found.append(_CONSTRAINTS[name])
    return found


def _obeys(constraint: Any, value: np.ndarray) -> bool:
    allowed = np.asarray(constraint(tf.constant(value, tf.float32)))
    return np.allclose(allowed, value, rtol=1e-5, atol=1e-7)


def _arguments(linear: Linear) -> dict[str, Any]:
    without = dict.fromkeys(broken_constraints(linear))
    return {**without, "use_bias": linear.bias is not None}


def _fill(
    new: keras.layers.Layer,
    given: keras.layers.Layer,
    linear: Linear | None,
    has_new_sign: bool,
) -> None:
    values = {} if linear is None else linear.values()
    skipped = [*values, *(["input_quantizer"] if has_new_sign else [])]
    pairs = zip(_others(new, skipped), _others(given, skipped), strict=True)
    for variable, old in pairs:
        variable.assign(latent(old).numpy())
    for name, value in values.items():
        _assign(getattr(new, name), value)


def _others(layer: keras.layers.Layer, skipped: list[str]) -> list[Any]:
    """The weights of a layer that are not those of some attributes."""
    known = set()
    for name in skipped:
        part = getattr(layer, name, None)
        weights = part.weights if isinstance(part, keras.layers.Layer) else [part]
        known |= {id(latent(weight)) for weight in weights if weight is not None}
    return [latent(w) for w in layer.weights if id(latent(w)) not in known]
