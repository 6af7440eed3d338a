"""What is repaired in Larq and Keras, for all of their classes."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from larq.layers_base import BaseLayer
from larq.quantizers import Quantizer, _BaseQuantizer

from ._keras import call_named_activations, keras


def count_flips(quantizer: Quantizer, value: tf.Tensor) -> None:
    """Shows a quantized value to the `flip_ratio` of its quantizer.

    For the result, which `add_metric` takes, all replicas wait for each other. A layer
    of Larq that pads with ones has its padding swapped meanwhile, which they share.
    """
    metric = quantizer.flip_ratio
    if all(each is not metric for each in quantizer._metrics):
        quantizer._metrics.append(metric)  # as `add_metric` does
    metric.update_state(value)


def _measured(self: Quantizer, inputs: tf.Tensor) -> tf.Tensor:
    if hasattr(self, "flip_ratio"):
        count_flips(self, inputs)
    return inputs


def _follow(quantizer: Any, policy: keras.mixed_precision.Policy) -> None:
    """Lets a quantizer compute in the type of its layer; its weights stay."""
    if not isinstance(quantizer, Quantizer):
        return
    if quantizer.dtype_policy.variable_dtype == policy.variable_dtype:
        quantizer._set_dtype_policy(policy)
    for inner in vars(quantizer).values():
        _follow(inner, policy)


def repair_larq() -> None:
    """Repairs Larq's layers where mixed precision, or several replicas, meet metrics.

    A quantizer has a type of its own, also in the configuration of its layer. Where
    that of the layer alone is changed, inputs and kernels would be of two types.
    """
    made = BaseLayer.__init__

    @functools.wraps(made)
    def __init__(self: BaseLayer, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        for value in vars(self).values():
            _follow(value, self.dtype_policy)

    BaseLayer.__init__ = __init__
    _BaseQuantizer.call = _measured


repair_larq()
call_named_activations(Quantizer)
