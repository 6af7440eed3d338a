"""What is repaired in Larq and Keras, for all of their classes."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from larq.layers_base import BaseLayer
from larq.quantizers import Quantizer, _BaseQuantizer

from ._errors import InvalidValue
from ._keras import call_named_activations, keras, wrap_reconstruction


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


class _Layers(list):
    """Layers that Keras passes over until all calls are made, if that ends."""

    def __init__(self, layers: list[Any], made: dict[str, keras.layers.Layer]) -> None:
        super().__init__(layers)
        self._made = made
        self._calls: list[dict[str, int]] = []

    def __iter__(self) -> Iterator[Any]:
        """Once to make the layers, and then once for each pass over their calls."""
        calls = {name: len(layer._inbound_nodes) for name, layer in self._made.items()}
        self._calls.append(calls)
        if len(self._calls) > 2 and calls == self._calls[-2]:
            before = self._calls[1]
            waiting = (
                layer["name"]
                for layer in super().__iter__()
                if calls[layer["name"]] - before[layer["name"]]
                < len(layer["inbound_nodes"])
            )
            raise InvalidValue(
                f"{next(waiting)!r} waits for a tensor that no layer gives. Save the "
                "model again."
            )
        return super().__iter__()


class _Made(OrderedDict):
    """Layers by name; Keras takes another dictionary for one that is false."""

    def __bool__(self) -> bool:
        return True


def _ending(endless: Callable[..., Any]) -> Callable[..., Any]:
    """Ends what Keras does for ever: a functional model whose layers wait in vain."""

    @functools.wraps(endless)
    def reconstruct(
        config: dict[str, Any], custom_objects: Any = None, created_layers: Any = None
    ) -> Any:
        made = _Made(created_layers or {})
        if isinstance(config.get("layers"), list):
            config = {**config, "layers": _Layers(config["layers"], made)}
        return endless(config, custom_objects, made)

    return reconstruct


repair_larq()
call_named_activations(Quantizer)
wrap_reconstruction(_ending)
