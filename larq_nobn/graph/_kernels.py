"""What a quantizer or a quantized kernel amounts to at inference."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import larq as lq
import numpy as np

from .._keras import keras
from ..quantizers import BinaryRegularized
from ._rebuild import rebuild

# Functions that are signs without saying so, and the quantizers that compute them.
SIGN_FUNCTIONS: dict[Any, type] = {
    lq.math.sign: lq.quantizers.SteSign,
    lq.quantizers.ste_sign: lq.quantizers.SteSign,
    lq.quantizers.approx_sign: lq.quantizers.ApproxSign,
    lq.quantizers.swish_sign: lq.quantizers.SwishSign,
    lq.math.heaviside: lq.quantizers.SteHeaviside,
    lq.quantizers.ste_heaviside: lq.quantizers.SteHeaviside,
}


def is_binary(quantizer: Any) -> bool:
    """Tells whether a quantizer declares one bit and is more than a marker."""
    marker = isinstance(quantizer, lq.quantizers.NoOp)
    return bits_of(quantizer) == 1 and not marker


def kind_of(quantizer: Any) -> type:
    """Returns the class of a quantizer; of a function, that which computes the same."""
    function = quantizer if isinstance(quantizer, Hashable) else None
    return SIGN_FUNCTIONS.get(function, type(quantizer))


def as_quantizer(sign: Any, **arguments: Any) -> Any:
    """Returns the quantizer that computes what a known function does, or what is given.

    Arguments:
        sign: A quantizer or a function.
        **arguments: Of the quantizer that is made of a function.
    """
    kind = kind_of(sign)
    return sign if isinstance(sign, kind) else kind(**arguments)


def bits_of(quantizer: Any) -> int:
    """Returns the precision that a quantizer declares, a marker too; 32 for none."""
    own = getattr(quantizer, "precision", None)
    return own or getattr(kind_of(quantizer), "precision", None) or 32


def has_binary_kernel(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer multiplies by ±c, with one c per output channel.

    Or, where its quantizer makes these of it, by 0 and 1.
    """
    quantizer = getattr(layer, "kernel_quantizer", None)
    if _is_certain(quantizer):
        return True
    return split_kernel(kernel_value(layer.kernel)) is not None


def _is_certain(quantizer: Any) -> bool:
    """Whether a quantizer makes two values of any kernel whatever."""
    if isinstance(quantizer, BinaryRegularized):
        quantizer = quantizer.quantizer
    known = kind_of(quantizer).__module__.split(".")[0] in ("larq", "larq_nobn")
    return known and is_binary(quantizer)


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
    """Splits a ±c kernel into exact ±1 and c >= 0, (C,); None for other kernels.

    Its last axis is that of the output channels.
    """
    magnitude = np.abs(kernel)
    scale = magnitude.max(axis=tuple(range(kernel.ndim - 1)))
    # Float rounding only: LCE itself would silently flatten differences of 0.5 %.
    if not np.all(scale - magnitude <= 1e-5 * scale):
        return None
    return np.where(kernel < 0, -1.0, 1.0).astype(np.float32), scale.astype(np.float32)
