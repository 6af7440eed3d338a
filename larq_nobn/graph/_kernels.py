"""What a quantizer or a quantized kernel amounts to at inference."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np

from .._keras import keras
from ._rebuild import rebuild


def is_binary(quantizer: Any) -> bool:
    """Tells whether a quantizer declares one bit and is more than a marker."""
    marker = isinstance(quantizer, lq.quantizers.NoOp)
    return getattr(quantizer, "precision", None) == 1 and not marker


def kernel_value(variable: Any, latent: np.ndarray | None = None) -> np.ndarray:
    """Returns what the forward pass sees of a kernel: its quantized value.

    Arguments:
        variable: The kernel of a layer.
        latent: Latent values to take instead of its own.
    """
    quantizer = getattr(variable, "quantizer", None)
    if quantizer is None:
        return variable.numpy() if latent is None else latent
    if latent is None:
        latent = variable.latent_variable.numpy()
    latent = latent.astype(variable.dtype.as_numpy_dtype)
    if not isinstance(quantizer, keras.layers.Layer):
        return np.asarray(quantizer(latent))
    # On a copy: calling the given quantizer would move its metrics.
    same = rebuild(quantizer, float32=latent.dtype == np.float32)
    same(latent)
    same.set_weights(quantizer.get_weights())
    return np.asarray(same(latent))


def split_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Splits a ±c kernel into exact ±1 and c >= 0, (C,); None for other kernels."""
    magnitude = np.abs(kernel)
    scale = magnitude.max(axis=(0, 1, 2))
    # Float rounding only: LCE itself would silently flatten differences of 0.5 %.
    if not np.all(scale - magnitude <= 1e-5 * scale):
        return None
    return np.where(kernel < 0, -1.0, 1.0).astype(np.float32), scale.astype(np.float32)
