"""Larq's layers and quantizers, seen from outside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from ._keras import uncast


@contextmanager
def without_starvation_warning() -> Iterator[None]:
    """Mutes the advice to give a binary kernel a constraint.

    Standardized kernels cannot starve, and of a layer that is only made again the user
    has been told before.
    """
    log = logging.getLogger("larq.layers_base")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def kernel_in_layer(
    layer: Any, variable: Any, quantizer: Callable[[Any], Any] | None = None
) -> tf.Tensor:
    """Returns a kernel as the forward pass of its layer uses it, outside of the layer.

    A layer of mixed precision rounds its kernel to 16 bits before it is quantized, but
    for quantizers of this package that take signs relative to other weights.

    Arguments:
        layer: Whose kernel it is.
        variable: The kernel, quantized or not.
        quantizer: Called in the place of its own, such as a copy; None for its own.
    """
    latent = getattr(variable, "latent_variable", variable)
    quantizer = quantizer or getattr(variable, "quantizer", None)
    value = uncast(latent)
    cast = hasattr(latent, "true_dtype")  # Keras' variables of mixed precision
    dtype = layer.compute_dtype if cast else value.dtype
    if quantizer is None:
        return tf.cast(value, dtype)
    if not getattr(quantizer, "reads_stored_kernel", False):
        value = tf.cast(value, dtype)
    return tf.cast(quantizer(value), dtype)


@contextmanager
def unmeasured(quantizer: Any) -> Iterator[None]:
    """Keeps the metrics of a quantizer as they are while it is called once more."""
    parts = (quantizer, *getattr(quantizer, "submodules", ()))
    # Not through setattr, with which Keras would forget that it tracks them.
    attributes = [getattr(part, "__dict__", {}) for part in parts]
    metrics = [each.pop("flip_ratio", None) for each in attributes]
    try:
        yield
    finally:
        for each, metric in zip(attributes, metrics, strict=True):
            if metric is not None:
                each["flip_ratio"] = metric
