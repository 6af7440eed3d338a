"""Describes the function of a layer by values that never change, and builds layers.

An operation is to a layer what a number is to a variable. It has the configuration of
the Keras layer that it came from, except for arguments that an edit changed, and that
layer's weights as arrays, except for those that an edit replaced. Only `build` makes a
layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from .._larq import without_starvation_warning
from ._errors import ModelError, raised_by

# Advice for wrappers, which may change the weights of their layer in every call.
UNWRAP = (
    "take layers out of wrappers, such as those of pruning "
    "(tfmot.sparsity.keras.strip_pruning)"
)

# The layers that Keras makes of x + y, tf.pad(x, ...) and x[..., :3].
_OPERATORS = ("TFOpLambda", "SlicingOpLambda")
# Classes of other packages count as the user's.
KNOWN_PACKAGES = ("tf_keras", "larq", "larq_nobn")


def rebuild(
    layer: keras.layers.Layer, float32: bool = False, kind: Any = None, **changes: Any
) -> keras.layers.Layer:
    """Builds a layer like the given one, with some arguments changed.

    A layer that stands for a function, such as a Lambda, gets the function itself: a
    file need not contain all of the function.

    Arguments:
        layer: Any layer; also a quantizer that is one.
        float32: Whether the layer and all layers inside it compute in float32.
        kind: Another class that takes the same arguments; None for the layer's own.
        **changes: Arguments that differ.

    Raises:
        ModelError: If the layer's class does not support it.
    """
    unwrap = f", or {UNWRAP}" if isinstance(layer, keras.layers.Wrapper) else ""
    advice = f"Give the class a get_config that lists every argument{unwrap}."
    rebuilding = raised_by(layer, "cannot be rebuilt from its configuration", advice)
    with without_starvation_warning(), rebuilding:
        config = _config(layer, float32) | changes
        if is_function(layer):
            return type(layer)(**config)
        return (kind or type(layer)).from_config(config)


def take_state(layer: keras.layers.Layer, given: keras.layers.Layer) -> None:
    """Gives the copy of a layer or model the state of the given one."""
    layer.set_weights(given.get_weights())
    finalize(layer)


def finalize(layer: keras.layers.Layer) -> None:
    """Updates what a layer or model derives from its weights, after they were set.

    Preprocessing layers compute numbers from their weights in Keras' `adapt`, and when
    Keras opens some formats, but not when weights are assigned.
    """
    for part in layer._flatten_layers():
        part.finalize_state()


def is_foreign(layer: keras.layers.Layer) -> bool:
    """Whether a layer, or a part of it, is of a user's class.

    Layers of other classes are fully described by configuration and weights.
    """
    return any(
        type(part).__module__.partition(".")[0] not in KNOWN_PACKAGES
        for part in layer._flatten_layers()
    )


def needs_float32(layer: keras.layers.Layer) -> bool:
    """Whether a layer, or a part of it, computes in floats of another precision."""
    dtypes = {part.compute_dtype for part in layer._flatten_layers()}
    return any(_is_float(dtype) for dtype in dtypes - {"float32"})


def is_function(layer: keras.layers.Layer) -> bool:
    """Whether a layer stands for a function: a Lambda, or an operator."""
    operator = type(layer).__name__ in _OPERATORS and hasattr(layer, "symbol")
    return type(layer) is keras.layers.Lambda or operator


def _config(layer: keras.layers.Layer, float32: bool) -> dict[str, Any]:
    """Returns the arguments of a layer, with functions as they are."""
    ends = ("quantizer", "activation", "estimator")
    own = vars(layer).items()
    functions = {name: x for name, x in own if name.endswith(ends) and callable(x)}
    if is_function(layer):
        config = {**keras.layers.Layer.get_config(layer), "function": layer.function}
        if type(layer) is keras.layers.Lambda:
            config["arguments"] = dict(layer.arguments)
            config |= {"output_shape": layer._output_shape, "mask": layer.mask}
    else:
        alone = copy(layer)  # without functions, since some have no name
        for name in functions:
            activation = name.endswith("activation")
            vars(alone)[name] = keras.activations.linear if activation else None
        config = dict(alone.get_config())
    config = _rebuilt(config, float32, layer)
    for name in functions.keys() & config.keys():
        value = functions[name]
        # Two layers cannot share a quantizer with weights.
        is_layer = isinstance(value, keras.layers.Layer)
        config[name] = rebuild(value, float32) if is_layer else value
    # With virtual batches, Keras returns the axis counted one too high.
    virtual = layer.built and getattr(layer, "virtual_batch_size", None)
    if virtual and config["axis"] == layer.axis:
        config["axis"] = [axis - 1 for axis in layer.axis]
    return config


def _rebuilt(config: Any, float32: bool, owner: keras.layers.Layer) -> Any:
    """Returns a configuration with new layers, as from a file.

    With `float32`, every float policy becomes float32.
    """
    if isinstance(config, list | tuple):
        parts = [_rebuilt(item, float32, owner) for item in config]
        return tuple(parts) if isinstance(config, tuple) else parts
    if isinstance(config, dict):
        return {
            key: "float32"
            if float32 and key == "dtype" and _is_float(value)
            else _rebuilt(value, float32, owner)
            for key, value in config.items()
        }
    # Layers among the arguments of a Lambda stay, as the function does.
    if not isinstance(config, keras.layers.Layer) or is_function(owner):
        return config
    if isinstance(config, keras.Model):
        return type(config).from_config(config.get_config())
    made, shape = rebuild(config, float32), config.get_build_config()
    # Layers with their own `build` build their parts.
    if type(owner).build is keras.layers.Layer.build and config.built and shape:
        made.build_from_config(shape)
    return made


def _is_float(dtype: Any) -> bool:
    if isinstance(dtype, dict):  # a serialized policy
        dtype = dtype.get("config", {}).get("name", "")
    return "float" in str(dtype)


# The argument for the quantizer of each kernel, by the kernel's attribute.
KERNELS = {
    "kernel": "kernel_quantizer",
    "depthwise_kernel": "depthwise_quantizer",
    "pointwise_kernel": "pointwise_quantizer",
}
_CONSTRAINTS = {
    "bias": "bias_constraint",
    **{name: of.replace("quantizer", "constraint") for name, of in KERNELS.items()},
}


@dataclass(frozen=True, eq=False)
class Operation:
    """The function that all calls of one layer compute.

    Attributes:
        name: The name of the layer.
        kind: The class of the layer, whether its traits are known or not. It may differ
            from the class of the base, if it takes the same arguments and more.
        base: The Keras layer whose configuration and weights it has; None for an
            operation that a rewrite made.
        arguments: Arguments of its class that differ from those of the base; inner
            layers are operations, too.
        values: Weights by attribute, where they differ from those of the base; for a
            quantized kernel, the latent weights.
    """

    name: str
    kind: type
    base: keras.layers.Layer | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All its weights by attribute, except those of layers inside."""
        weights = {} if self.base is None else named(self.base)
        return {**{name: x.numpy() for name, x in weights.items()}, **self.values}

    def argument(self, name: str, default: Any = None) -> Any:
        """Returns an argument of its class, as far as the layer shows it."""
        if name in self.arguments:
            return self.arguments[name]
        return getattr(self.base, name, default)

    def quantizer(self, kernel: str) -> Any:
        return self.argument(KERNELS[kernel])

    @cached_property
    def layer(self) -> Any:
        """A Keras layer of its class and arguments; read nothing else of it."""
        edited = self.arguments or self.kind is not type(self.base)
        return self.build() if edited else self.base

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

    @property
    def is_given(self) -> bool:
        """Whether it computes what its base does: no edit changed it."""
        edited = self.values or self.arguments or self.kind is not type(self.base)
        return self.base is not None and not edited

    def build(self, float32: bool = False) -> keras.layers.Layer:
        """Returns a new layer; `fill` sets its weights once it is built."""
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
        """Sets the state of a layer that `build` returned."""
        if self.is_given:
            take_state(layer, self.base)
            return
        if self.base is not None:
            gone = [] if self.argument("use_bias", True) else ["bias"]
            skipped = [*self.values, *self.arguments, *gone]
            made, own = (_others(x, skipped) for x in (layer, self.base))
            if [x.shape for x in made] != [x.shape for x in own]:
                raise ModelError(
                    f"Layer {self.name!r} ({self.kind.__name__}) has other weights "
                    "when it is rebuilt from its configuration. Give the class a "
                    "get_config that lists every argument, and make all weights in "
                    "build."
                )
            for variable, value in zip(made, own, strict=True):
                variable.assign(tf.cast(value, variable.dtype))
        for name, value in self.values.items():
            variable = latent(getattr(layer, name))
            # A single number stands for as many as the layer has.
            variable.assign(value if np.ndim(value) else np.full(variable.shape, value))
        for name, part in self.arguments.items():
            if isinstance(part, Operation):
                part.fill(getattr(layer, name))
        finalize(layer)

    def _broken_constraints(self) -> list[str]:
        """Returns the constraints that only the base's weights obey."""
        own = named(self.base) if self.values else {}
        broken = []
        for name in set(self.values) & set(own) & set(_CONSTRAINTS):
            constraint = getattr(self.base, _CONSTRAINTS[name])
            if constraint is None or not _obeys(constraint, own[name].numpy()):
                continue
            if not _obeys(constraint, self.values[name]):
                broken.append(_CONSTRAINTS[name])
        return broken


def latent(variable: Any) -> Any:
    """Returns the variable that is trained; for a quantized kernel, the latent one."""
    return getattr(variable, "latent_variable", variable)


def named(layer: Any) -> dict[str, Any]:
    """Returns the variables that are attributes of a layer, by attribute."""
    own = {id(latent(weight)) for weight in layer.weights}
    attributes = {name: latent(value) for name, value in vars(layer).items()}
    return {name: value for name, value in attributes.items() if id(value) in own}


def _others(layer: keras.layers.Layer, skipped: list[str]) -> list[Any]:
    """Returns the variables of a layer, except those of some attributes."""
    known = set()
    for name in skipped:
        part = getattr(layer, name, None)
        weights = part.weights if isinstance(part, keras.layers.Layer) else [part]
        known |= {id(latent(weight)) for weight in weights if weight is not None}
    return [latent(w) for w in layer.weights if id(latent(w)) not in known]


def _obeys(constraint: Any, value: np.ndarray) -> bool:
    with raised_by(constraint, "cannot be called on a kernel"):
        allowed = np.asarray(constraint(tf.constant(value, tf.float32)))
    return np.allclose(allowed, value, rtol=1e-5, atol=1e-7)
