"""Masks: what Keras hands on beside a tensor, in a model that is built again.

`Embedding(mask_zero=True)` or `Masking` makes a mask, most layers hand it on, and a few
read it. Layers that a rewrite makes may lose it, or hand on what the given layer did
not. So every layer that may read a mask is shown that of the given model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from .._keras import keras
from ..layers._with_mask import WithMask
from ._errors import ModelError
from ._graph import Call, Graph, calls, inputs_of
from ._operation import KNOWN_PACKAGES, is_function

# Makes a call of a layer, on the tensors that it reads, and at inference if asked to.
Make = Callable[..., Any]
# Which call of the given model makes a mask, and with which of its outputs.
_Origin = tuple[int, int]


def masks_of(graph: Graph, make: Make) -> Masks | None:
    """Returns the `Masks` of the model that a graph is of; None if it has none."""
    given_calls = calls(graph.model)
    made = [tensor for call in given_calls for tensor in tf.nest.flatten(call.outputs)]
    masked = any(getattr(tensor, "_keras_mask", None) is not None for tensor in made)
    return Masks(graph.model, given_calls, make) if masked else None


class Masks:
    """The masks of a given model, and of one that is being built in its place.

    Only a call tells what a layer does with a mask, so each is made a second time, on
    tensors of a graph that nobody runs. Masks are compared by the call that makes them.

    Arguments:
        model: The given model.
        given_calls: Its calls.
        make: Makes a call.
    """

    def __init__(
        self, model: keras.Model, given_calls: Sequence[Call], make: Make
    ) -> None:
        self._graph, self._make = tf.__internal__.FuncGraph("masks"), make
        self._names = {call.name for call in given_calls}
        self._kept: list[Any] = []  # whose ids are known here
        self._traced: dict[int, Any] = {}
        self._origins: dict[int, _Origin] = {}
        self._makers: dict[_Origin, Any] = {}
        for given in model.inputs:
            self.start(given)
        self._wanted = {}
        for call in given_calls:
            given = inputs_of(call.node)
            self._wanted[id(call.node)] = list(map(self._origin, given))
            self.follow(call, call.layer, given, call.outputs)
        self._ends = list(map(self._origin, model.outputs))
        self._origins, self._makers = {}, {}

    def start(self, tensor: Any) -> None:
        """Takes note of an input of a model."""
        with self._graph.as_default():
            traced = tf.compat.v1.placeholder(tensor.dtype, tensor.shape)
        self._keep(tensor, traced)

    def follow(self, call: Call, layer: Any, given: Sequence[Any], made: Any) -> None:
        """Takes note of what a call of a layer has made of some tensors."""
        with self._graph.as_default():
            ends = self._make(call, layer, [self._traced[id(x)] for x in given], True)
        pairs = zip(tf.nest.flatten(made), tf.nest.flatten(ends), strict=False)
        for place, (tensor, traced) in enumerate(pairs):
            self._keep(tensor, traced)
            mask = getattr(traced, "_keras_mask", None)
            if mask is not None and id(mask) not in self._origins:
                self._kept.append(mask)
                origin = id(call.node), place
                self._origins[id(mask)] = origin
                self._makers[origin] = tensor

    def shown(self, call: Call, layer: Any, given: Sequence[Any]) -> list[Any]:
        """Returns what a layer reads, with the masks that it has in the given model.

        Raises:
            ModelError: If one of these is not made any more.
        """
        if call.node is None or not _may_read(layer):
            return list(given)
        wanted = self._wanted[id(call.node)]
        return [self._masked(*pair, call) for pair in zip(given, wanted, strict=True)]

    def shown_outside(self, ends: Sequence[Any]) -> list[Any]:
        """Returns the outputs of a model, with the masks that they have there."""
        return [
            self._masked(*pair, None) for pair in zip(ends, self._ends, strict=True)
        ]

    def _masked(self, tensor: Any, wanted: _Origin | None, call: Call | None) -> Any:
        own = tensor._keras_history.layer.name
        if self._origin(tensor) == wanted:
            return tensor
        if wanted is not None and wanted not in self._makers:
            reader = "the output" if call is None else f"layer {call.described}"
            raise ModelError(
                f"The mask that {reader} reads after layer {own!r} is not made any "
                "more once the layers before it are rewritten. Call the layer with "
                "mask=..., or build the model without that mask."
            )
        name, number = f"{own}_mask", 1
        while name in self._names:
            name, number = f"{own}_mask_{number}", number + 1
        self._names.add(name)
        layer = WithMask(name=name)
        given = tensor if wanted is None else [tensor, self._makers[wanted]]
        made = layer(given)
        traced = tf.nest.map_structure(lambda x: self._traced[id(x)], given)
        with self._graph.as_default():
            self._keep(made, layer(traced))
        return made

    def _keep(self, tensor: Any, traced: Any) -> None:
        self._kept.append(tensor)
        self._traced[id(tensor)] = traced

    def _origin(self, tensor: Any) -> _Origin | None:
        mask = getattr(self._traced[id(tensor)], "_keras_mask", None)
        return None if mask is None else self._origins[id(mask)]


def _may_read(layer: keras.layers.Layer) -> bool:
    """Whether what a layer computes may depend on masks.

    Layers of known packages read masks as their arguments only.
    """
    default = keras.layers.Layer.compute_mask
    given = layer._expects_mask_arg or type(layer).compute_mask is not default
    package = type(layer).__module__.split(".")[0]
    return given or not (package in KNOWN_PACKAGES or is_function(layer))
