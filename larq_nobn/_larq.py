"""Larq, repaired: the only module of the package that imports it."""

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
    for quantizers of this package that take signs relative to other weights. Another
    quantizer may be called in the place of its own, such as a copy.
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
    """Keeps the metrics of a quantizer, and its state where it is run eagerly, as they
    are while it is called once more.
    """
    parts = (quantizer, *getattr(quantizer, "submodules", ()))
    # Not through setattr, with which Keras would forget that it tracks them.
    attributes = [getattr(part, "__dict__", {}) for part in parts]
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
    """Shows a quantized value to the `flip_ratio` of its quantizer.

    For the result, which `add_metric` takes, all replicas wait for each other. A layer
    of Larq that pads with ones has its padding swapped meanwhile, which they share.
    """
    metric = quantizer.flip_ratio
    if all(known is not metric for known in quantizer._metrics):
        quantizer._metrics.append(metric)  # as `add_metric` does
    metric.update_state(value)


def _measured(self: lq.quantizers.Quantizer, inputs: tf.Tensor) -> tf.Tensor:
    if hasattr(self, "flip_ratio"):
        count_flips(self, inputs)
    return inputs


def _follow(quantizer: Any, policy: keras.mixed_precision.Policy) -> None:
    """Lets a quantizer compute in the type of its layer; its weights stay."""
    if not isinstance(quantizer, lq.quantizers.Quantizer):
        return
    if quantizer.dtype_policy.variable_dtype == policy.variable_dtype:
        quantizer._set_dtype_policy(policy)
    for inner in vars(quantizer).values():
        _follow(inner, policy)


def repair_larq() -> None:
    """Repairs Larq's layers where mixed precision, or several replicas, meet metrics.

    A quantizer has a type of its own, also in the configuration of its layer. Where
    that of the layer alone is changed, inputs and kernels would be of two types.

    Kernels of this package need no constraint, which Larq advises of binary ones.
    """
    made = lq.layers_base.BaseLayer.__init__
    is_binary = lq.layers_base._is_binary

    @functools.wraps(made)
    def __init__(self: lq.layers_base.BaseLayer, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
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
