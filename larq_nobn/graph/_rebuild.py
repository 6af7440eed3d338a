"""Rebuilds layers from their configuration."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from .._keras import keras
from .._larq import without_starvation_warning
from ._errors import UNWRAP, ModelError

# What Keras makes of x + y, tf.pad(x, ...) and x[..., :3].
_OPERATORS = ("TFOpLambda", "SlicingOpLambda")


def rebuild(
    layer: keras.layers.Layer,
    float32: bool = False,
    kind: Any = None,
    **changes: Any,
) -> keras.layers.Layer:
    """Builds a layer like the given one, with some arguments changed.

    A layer that stands for a function, such as a Lambda, gets the function itself:
    what a file contains of a function need not be all of it.

    Arguments:
        layer: Any layer; also a quantizer that is one.
        float32: Whether it computes in float32, and so do the layers inside it.
        kind: Another class that takes its arguments; None for its own.
        **changes: Arguments that differ.

    Raises:
        ModelError: If the layer's class does not support it.
    """
    try:
        config = _config(layer)
        if float32:
            config = float32_config(config)
        config |= changes
        with without_starvation_warning():
            if is_function(layer):
                return type(layer)(**config)
            return (kind or type(layer)).from_config(config)
    except Exception as error:  # a user's class may raise anything
        unwrap = f", or {UNWRAP}" if isinstance(layer, keras.layers.Wrapper) else ""
        raise ModelError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be rebuilt from its "
            f"configuration: {error}. Give the class a get_config that lists every "
            f"argument{unwrap}."
        ) from error


def is_function(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a function that someone wrote: a Lambda, or an operator."""
    operator = type(layer).__name__ in _OPERATORS and hasattr(layer, "symbol")
    return type(layer) is keras.layers.Lambda or operator


def _config(layer: keras.layers.Layer) -> dict[str, Any]:
    if is_function(layer):
        return _of_function(layer)
    config = dict(layer.get_config())
    # Of a quantizer that is a function, a configuration has the name alone.
    for name in config:
        if name.endswith("quantizer") and isinstance(
            vars(layer).get(name), FunctionType
        ):
            config[name] = vars(layer)[name]
    # Keras counts the axis of virtual batches into the axis that it then returns.
    virtual = layer.built and getattr(layer, "virtual_batch_size", None)
    if virtual and config["axis"] == layer.axis:
        config["axis"] = [axis - 1 for axis in layer.axis]
    return config


def _of_function(layer: keras.layers.Layer) -> dict[str, Any]:
    config = {**keras.layers.Layer.get_config(layer), "function": layer.function}
    if type(layer) is keras.layers.Lambda:
        config["arguments"] = dict(layer.arguments)
        config |= {"output_shape": layer._output_shape, "mask": layer.mask}
    return config


def float32_config(config: Any) -> Any:
    """Returns a layer configuration with every float policy replaced by float32."""
    if isinstance(config, tuple):
        return tuple(float32_config(item) for item in config)
    if isinstance(config, list):
        return [float32_config(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: "float32" if key == "dtype" and _is_float(value) else float32_config(value)
        for key, value in config.items()
    }


def _is_float(dtype: Any) -> bool:
    if isinstance(dtype, dict):  # a serialized policy
        dtype = dtype.get("config", {}).get("name", "")
    return "float" in str(dtype)
