"""What a quantizer or a quantized kernel amounts to at inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np

from .._keras import keras
from ..quantizers import RSign
from ._errors import ConversionError
from ._inference import ShiftedSign


def is_binary(quantizer: Any) -> bool:
    """Tells whether a quantizer declares one bit and is more than a marker."""
    marker = isinstance(quantizer, lq.quantizers.NoOp)
    return getattr(quantizer, "precision", None) == 1 and not marker


def plain_sign(quantizer: RSign) -> ShiftedSign:
    """Drops the scale of an RSign: sign(a x + b) = sign(x + b / a) for positive a."""
    if quantizer.shift is None:
        return ShiftedSign(None, name=quantizer.name)
    shift = quantizer.shift.numpy() / np.float32(quantizer.scale)
    return ShiftedSign(shift, name=quantizer.name)


def copy_quantizer(quantizer: Any) -> tuple[Any, Callable[[], None]]:
    """Returns a float32 copy, and what gives it its weights once it is built."""
    if isinstance(quantizer, RSign):
        return plain_sign(quantizer), nothing
    if not isinstance(quantizer, keras.layers.Layer):
        return quantizer, nothing
    new = rebuild(quantizer)
    return new, lambda: new.set_weights(quantizer.get_weights())


def kernel_value(variable: Any) -> np.ndarray:
    """Returns what the forward pass sees of a kernel: its quantized value."""
    quantizer = getattr(variable, "quantizer", None)
    if quantizer is None:
        return variable.numpy()
    latent = variable.latent_variable.numpy()
    # On a copy: calling the given quantizer would move its metrics.
    same, fill = copy_quantizer(quantizer)
    same(latent)
    fill()
    return np.asarray(same(latent))


def split_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Splits a ±c kernel into exact ±1 and c >= 0, (C,); None for other kernels."""
    magnitude = np.abs(kernel)
    scale = magnitude.max(axis=(0, 1, 2))
    # Float rounding only: LCE itself would silently flatten differences of 0.5 %.
    if not np.all(scale - magnitude <= 1e-5 * scale):
        return None
    return np.where(kernel < 0, -1.0, 1.0).astype(np.float32), scale.astype(np.float32)


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


def rebuild(layer: keras.layers.Layer, **changes: Any) -> keras.layers.Layer:
    """Builds a layer like the given one, in float32, with some arguments changed."""
    try:
        config = float32_config(layer.get_config())
        return type(layer).from_config({**config, **changes})
    except Exception as error:  # a user's class may raise anything
        raise ConversionError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be rebuilt from its "
            f"configuration: {error}. Give the class a get_config that lists every "
            "argument."
        ) from error


def nothing() -> None:
    """Fills a layer that has no weights to fill."""
