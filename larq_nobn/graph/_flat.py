"""Copies a model, with all models inside it, into one plain graph."""

from __future__ import annotations

from copy import copy
from typing import Any

import larq as lq
import tensorflow as tf

from .._keras import keras, why_no_model
from ..layers import BatchKalmanNormalization
from ._calls import Call, calls
from ._errors import ModelError
from ._graph import Graph
from ._kernels import as_quantizer
from ._rebuild import rebuild
from ._replace import Layers, inputs_like, model_like, run_call
from ._signs import sign_after
from ._training import training_argument

_NORMS = (keras.layers.BatchNormalization, BatchKalmanNormalization)
# What runs the layer graph and nothing else: of Sequential, and of functional models.
_PLAIN = {kind.call for kind in keras.Sequential.__mro__[:2]}


def flat_copy(model: Any, starts: list[Any] | None = None) -> keras.Model:
    """Returns a functional copy of the same inference function, with new layers.

    Models inside the model are opened, so that every layer stands in one graph; where
    two layers would then share a name, the later gets that of its model in front. A
    sign that is the activation of a layer becomes a layer of its own after it. What
    only training needs of other examples is left out: the states of Kalman
    normalizations, and preconditioning.

    Arguments:
        model: A built functional or Sequential model; it is not changed.
        starts: New inputs, of other sizes; None for inputs like those of the model.

    Raises:
        ModelError: If it is, or holds, a subclassed model, all of which it names, or a
            layer that cannot be rebuilt.
    """
    check_readable(model)
    with lq.context.quantized_scope(False):
        copier = _Copier(model)
        starts = inputs_like(model) if starts is None else starts
        ends = copier.run(model, starts, {})
        copy = model_like(model, starts, ends)
        copier.fill()
    return copy


def flat(model: Any) -> keras.Model:
    """Returns the model itself if it is flat already, or else its `flat_copy`.

    For whoever reads what it returns, and calls none of its layers.

    Raises:
        ModelError: As `flat_copy`, but for layers that cannot be rebuilt.
    """
    check_readable(model)
    return model if all(map(_is_plain, calls(model))) else flat_copy(model)


def from_keras(model: Any) -> Graph:
    """Reads a functional or Sequential model, with all models inside it, as a graph.

    Raises:
        ModelError: As `flat`.
    """
    return Graph(flat(model))


def _is_plain(call: Call) -> bool:
    """Whether a call stands in a flat copy as it stands in the model."""
    opened = (keras.Model, BatchKalmanNormalization)
    return (
        call.layer is call.node.layer
        and not isinstance(call.layer, opened)
        and sign_after(call.layer) is None
        and not _needs_real_input(call, call.first_input)
    )


class _Copier:
    def __init__(self, model: keras.Model) -> None:
        self._new: dict[int, Layers] = {}
        self._pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self._names = set(model.input_names)

    def run(
        self, model: keras.Model, starts: list[Any], modes: dict[str, Any]
    ) -> list[Any]:
        """Calls copies of a model's layers, in a mode of training if one is fixed."""
        tensors = {
            str(id(given)): start
            for given, start in zip(model.inputs, starts, strict=True)
        }
        for call in calls(model):
            if isinstance(call.layer, keras.Model):
                args, _ = call.arguments(tensors)
                given = call.layer._flatten_to_reference_inputs(args[0])
                pairs = zip(call.layer.inputs, given, strict=True)
                inner = [as_own_input(own, each) for own, each in pairs]
                fixed = training_argument(call)
                mode = modes if fixed is None else {"training": fixed}
                found = self.run(call.layer, inner, mode)
            else:
                free = call.layer._expects_training_arg and (
                    training_argument(call) is None
                )
                takes = modes if free else {}
                given = _with_real_inputs(call, tensors)
                found = run_call(call, self._copy(model, call), given, **takes)
            ids = call.node.flat_output_ids
            tensors.update(zip(ids, tf.nest.flatten(found), strict=False))
        return [tensors[str(id(end))] for end in model.outputs]

    def _copy(self, model: keras.Model, call: Call) -> Layers:
        layer = call.layer
        if id(layer) not in self._new:
            sign = sign_after(layer)
            alone = layer if sign is None else _without_activation(layer)
            new = rebuild(alone, name=self._name(call.name, model))
            self._new[id(layer)] = new
            self._pairs.append((layer, new))
            if sign is not None:
                self._new[id(layer)] = self._split(new, sign, model)
        return self._new[id(layer)]

    def _name(self, name: str, model: keras.Model) -> str:
        while name in self._names:
            name = f"{model.name}_{name}"
        self._names.add(name)
        return name

    def _split(self, new: keras.layers.Layer, sign: Any, model: keras.Model) -> Layers:
        """A copy of a layer and, after it, the sign that was its activation."""
        name = self._name(f"{new.name}_sign", model)
        if isinstance(sign, keras.layers.Layer):
            last = rebuild(sign, name=name)
            self._pairs.append((sign, last))
        else:
            last = as_quantizer(sign, name=name)
            if last is sign:  # a function of the user's
                last = keras.layers.Activation(sign, name=name)
        return lambda x: last(new(x))

    def fill(self) -> None:
        """Gives every copy the weights of its layer."""
        for given, new in self._pairs:
            apart = {id(x) for x in getattr(sign_after(given), "weights", ())}
            if apart:
                own = [x.numpy() for x in given.weights if id(x) not in apart]
            new.set_weights(own if apart else given.get_weights())


def _without_activation(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The same layer, for its configuration: not every sign can be written in one."""
    alone = copy(layer)
    vars(alone)["activation"] = keras.activations.linear
    return alone


def _with_real_inputs(call: Call, tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors, with whole numbers before a batch norm made real ones.

    What stands in its place later would get whole numbers otherwise.
    """
    key = str(id(call.first_input))
    if not _needs_real_input(call, tensors[key]):
        return tensors
    return {**tensors, key: tf.cast(tensors[key], call.first_output.dtype)}


def _needs_real_input(call: Call, given: Any) -> bool:
    return isinstance(call.layer, _NORMS) and not given.dtype.is_floating


def as_own_input(own: Any, tensor: Any) -> Any:
    """What a model makes of a tensor first of all: one of its input's type and rank.

    Arguments:
        own: An input of a functional model.
        tensor: What the model is called with there.
    """
    # As Keras does it, but on tensors of a graph, too.
    longer = own.shape.rank - tensor.shape.rank
    if longer == 1 and own.shape[-1] == 1:
        tensor = tf.expand_dims(tensor, -1)
    elif longer == -1 and tensor.shape[-1] == 1:
        tensor = tf.squeeze(tensor, -1)
    return tensor if tensor.dtype == own.dtype else tf.cast(tensor, own.dtype)


def check_readable(model: Any) -> None:
    """Raises for a model of which some part does not show what layers it is made of.

    Arguments:
        model: Whatever was given for a model.

    Raises:
        ModelError: If it is no model, or contains such parts, all of which it names.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(why_no_model(model))
    found = list(_opaque(model))
    if found:
        raise ModelError(
            f"Model {model.name!r} cannot be taken apart because of "
            f"{', '.join(found)}. Write these parts as layers, or as functional or "
            "Sequential models with a known input shape."
        )


def _opaque(model: keras.Model) -> list[str]:
    if not getattr(model, "_is_graph_network", False) or type(model).call not in _PLAIN:
        return [f"the subclassed or unbuilt model {model.name!r}"]
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [name for layer in inner for name in _opaque(layer)]
