"""What a layer computes, as values that nothing changes.

An operation is to a layer what a number is to a variable. It has the configuration of
the Keras layer that it came from, but for the arguments that an edit changed, and that
layer's weights as read-only arrays, but for those that an edit replaced. Only building
makes layers, and it makes new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ._rebuild import rebuild

_CONSTRAINTS = {
    "kernel": "kernel_constraint",
    "depthwise_kernel": "depthwise_constraint",
    "pointwise_kernel": "pointwise_constraint",
    "bias": "bias_constraint",
}


@dataclass(frozen=True, eq=False)
class Operation:
    """What all calls of one layer compute.

    Attributes:
        name: That of the layer.
        kind: Its class, which the tables of traits know or not. It may be another than
            that of the base, which takes the same arguments and more.
        base: The Keras layer whose configuration and weights it has; None for an
            operation that a rewrite made.
        arguments: Of its class, where they differ from those of the base; an operation
            stands for a layer inside.
        values: Its weights by attribute, where they differ from those of the base; of a
            quantized kernel the latent weights.
        origins: The Keras layers that it does the work of.
        opposite: Of a sign, the channels, (C,), in which it is the opposite of that of
            the given model; None for none.
    """

    name: str
    kind: type
    base: keras.layers.Layer | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    origins: tuple[keras.layers.Layer, ...] = ()
    opposite: np.ndarray | None = None

    def __post_init__(self) -> None:
        frozen = {name: _read_only(value) for name, value in self.values.items()}
        object.__setattr__(self, "values", frozen)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All its weights by attribute, but for those of layers inside."""
        given = {} if self.base is None else _named(self.base)
        own = {k: _read_only(v.numpy()) for k, v in given.items()}
        return {**own, **self.values}

    def argument(self, name: str, default: Any = None) -> Any:
        """Returns an argument of its class, as far as the layer shows it."""
        if name in self.arguments:
            return self.arguments[name]
        return getattr(self.base, name, default)

    def replaced(
        self,
        values: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Operation:
        """Returns another operation, with some weights, arguments or attributes."""
        return replace(
            self,
            values={**self.values, **(values or {})},
            arguments={**self.arguments, **(arguments or {})},
            **fields,
        )

    def build(self, float32: bool = False) -> keras.layers.Layer:
        """Returns a new layer; its weights come with `fill`, once it is built.

        Arguments:
            float32: Whether it computes in float32, whatever the base computes in.
        """
        arguments = {
            name: value.build(float32) if isinstance(value, Operation) else value
            for name, value in self.arguments.items()
        }
        if self.base is None:
            return self.kind(name=self.name, **arguments)
        without = dict.fromkeys(self._broken_constraints())
        changes = {**without, **arguments, "name": self.name}
        return rebuild(self.base, float32, self.kind, **changes)

    def fill(self, layer: keras.layers.Layer) -> None:
        """Gives a layer that it built its weights."""
        inside = {k: v for k, v in self.arguments.items() if isinstance(v, Operation)}
        if self.base is not None:
            gone = [] if self.argument("use_bias", True) else ["bias"]
            skipped = [*self.values, *inside, *gone]
            pairs = zip(
                _others(layer, skipped), _others(self.base, skipped), strict=True
            )
            for variable, given in pairs:
                variable.assign(given.numpy())
        for name, value in self.values.items():
            latent(getattr(layer, name)).assign(value)
        for name, part in inside.items():
            part.fill(getattr(layer, name))

    def _broken_constraints(self) -> list[str]:
        """The constraints that only the weights of the base obeyed."""
        given = _named(self.base) if self.values else {}
        found = []
        for name in set(self.values) & set(given) & set(_CONSTRAINTS):
            constraint = getattr(self.base, _CONSTRAINTS[name])
            if constraint is None or not _obeys(constraint, given[name].numpy()):
                continue
            if not _obeys(constraint, self.values[name]):
                found.append(_CONSTRAINTS[name])
        return found


def operation_of(layer: keras.layers.Layer, name: str) -> Operation:
    """Returns what a layer computes, under the name that it has in a graph."""
    return Operation(name, type(layer), layer, origins=(layer,))


def latent(variable: Any) -> Any:
    """Returns the variable that is trained: of a quantized kernel the latent one."""
    return getattr(variable, "latent_variable", variable)


def _named(layer: Any) -> dict[str, Any]:
    """The variables of a layer that are attributes of it."""
    own = {id(latent(weight)) for weight in layer.weights}
    found = {name: latent(value) for name, value in vars(layer).items()}
    return {name: value for name, value in found.items() if id(value) in own}


def _others(layer: keras.layers.Layer, skipped: list[str]) -> list[Any]:
    """The variables of a layer that are not those of some attributes."""
    known = set()
    for name in skipped:
        part = getattr(layer, name, None)
        weights = part.weights if isinstance(part, keras.layers.Layer) else [part]
        known |= {id(latent(weight)) for weight in weights if weight is not None}
    return [latent(w) for w in layer.weights if id(latent(w)) not in known]


def _obeys(constraint: Any, value: np.ndarray) -> bool:
    allowed = np.asarray(constraint(tf.constant(value, tf.float32)))
    return np.allclose(allowed, value, rtol=1e-5, atol=1e-7)


def _read_only(value: Any) -> np.ndarray:
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view
