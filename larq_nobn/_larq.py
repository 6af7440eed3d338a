"""Imports Larq and corrects some of its behavior; other modules import it from here."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ._keras import call_named_activations, keras, uncast


@contextmanager
def without_starvation_warning() -> Iterator[None]:
    """Mutes Larq's warning about binary kernels without a constraint.

    Standardized kernels need none, and for a layer that is only rebuilt the user has
    seen the warning before.
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
    """Returns the quantized kernel of a layer's forward pass, outside of the layer.

    A layer of mixed precision rounds its kernel to 16 bits before quantization, except
    for quantizers of this package that read the stored kernel. `quantizer` replaces
    that of the kernel, such as by a copy.
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
    """Restores a quantizer's metrics and, in eager mode, its state after the block."""
    modules = (quantizer, *getattr(quantizer, "submodules", ()))
    # Not by setattr, after which Keras would no longer track them.
    attributes = [getattr(module, "__dict__", {}) for module in modules]
    metrics = [attribute.pop("flip_ratio", None) for attribute in attributes]
    weights = getattr(quantizer, "non_trainable_weights", ())
    variables = weights if tf.executing_eagerly() else ()
    before = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            if not np.array_equal(variable.numpy(), value, equal_nan=True):
                variable.assign(value)
        for attribute, metric in zip(attributes, metrics, strict=True):
            if metric is not None:
                attribute["flip_ratio"] = metric


def count_flips(quantizer: lq.quantizers.Quantizer, value: tf.Tensor) -> None:
    """Updates the `flip_ratio` of a quantizer with a quantized value.

    It does not call `add_metric`, which makes all replicas wait for each other for the
    result: meanwhile a Larq layer that pads with ones has replaced its padding, which
    the replicas share.
    """
    metric = quantizer.flip_ratio
    if all(other is not metric for other in quantizer._metrics):
        quantizer._metrics.append(metric)  # as `add_metric` does
    metric.update_state(value)


def _measured(self: lq.quantizers.Quantizer, inputs: tf.Tensor) -> tf.Tensor:
    if hasattr(self, "flip_ratio"):
        count_flips(self, inputs)
    return inputs


def _follow(quantizer: Any, policy: keras.mixed_precision.Policy) -> None:
    """Gives a quantizer the dtype policy of its layer; its weights do not change."""
    if not isinstance(quantizer, lq.quantizers.Quantizer):
        return
    if quantizer.dtype_policy.variable_dtype == policy.variable_dtype:
        quantizer._set_dtype_policy(policy)
    for inner in vars(quantizer).values():
        _follow(inner, policy)


def repair_larq() -> None:
    """Corrects Larq's layers for mixed precision, and for metrics with replicas.

    A quantizer has its own dtype, also in the configuration of its layer. If only the
    dtype of the layer changed, inputs and kernels would have two types.

    It also removes the advice to constrain binary kernels for quantizers of this
    package, which need no constraint.
    """
    original_init = lq.layers_base.BaseLayer.__init__
    is_binary = lq.layers_base._is_binary

    @functools.wraps(original_init)
    def __init__(self: lq.layers_base.BaseLayer, *args: Any, **kwargs: Any) -> None:
        original_init(self, *args, **kwargs)
        for value in vars(self).values():
            _follow(value, self.dtype_policy)

    lq.layers_base.BaseLayer.__init__ = __init__
    lq.layers_base._is_binary = lambda quantizer: (
        not type(quantizer).__module__.startswith(f"{__package__}.")
        and is_binary(quantizer)
    )
    lq.quantizers._BaseQuantizer.call = _measured


repair_larq()
call_named_activations(lq.quantizers.Quantizer)
