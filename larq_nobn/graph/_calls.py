"""Reads the graph of a functional model: its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from .._keras import keras
from ..layers import (
    ActivationStandardization,
    BatchKalmanNormalization,
    BatchNormalizationPreconditioning,
    SignFlipDropout,
)
from ._operation import Operation, operation_of

_layers = keras.layers

# At inference these return their input: what they do, they do in training.
TRAINING_ONLY = (
    _layers.Dropout,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
    _layers.SpatialDropout3D,
    _layers.AlphaDropout,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.ActivityRegularization,
    _layers.RandomFlip,
    _layers.RandomTranslation,
    _layers.RandomRotation,
    _layers.RandomZoom,
    _layers.RandomContrast,
    _layers.RandomBrightness,
    ActivationStandardization,
    SignFlipDropout,
)


class Call(NamedTuple):
    """One use of a layer, which is a node of a graph; a layer used twice has two.

    Nothing changes a call: an edit of a graph puts others in its place.

    Attributes:
        label: Its name, which no other call has.
        name: That of the layer in the graph.
        layer: The Keras layer that it came from, as it is at inference.
        inputs: The tensors that it was called with, as they were nested.
        outputs: The tensors that it makes, likewise.
        node: The Keras node that it came from; None for a call that an edit added.
        reads: The tensors that it reads at inference.
        operation: What it computes, shared by all calls of its layer.
    """

    label: str
    name: str
    layer: keras.layers.Layer
    inputs: Any
    outputs: Any
    node: Any
    reads: tuple[Any, ...]
    operation: Operation

    @property
    def first_input(self) -> Any:
        """The first tensor that it reads."""
        return self.reads[0]

    @property
    def first_output(self) -> Any:
        """The first tensor that it makes: of Kalman normalization, the features."""
        return tf.nest.flatten(self.outputs)[0]

    @property
    def described(self) -> str:
        """Its layer in the words of a message."""
        return f"{self.name!r} ({type(self.layer).__name__})"

    def reading(self, old: Any, new: Any) -> Call:
        """Returns the same call with another tensor in the place of one."""
        if all(x is not old for x in self.reads):
            return self

        def other(x: Any) -> Any:
            return new if x is old else x

        inputs = tf.nest.map_structure(other, self.inputs)
        return self._replace(reads=tuple(map(other, self.reads)), inputs=inputs)

    def arguments(self, tensors: Mapping[str, Any]) -> tuple[Any, Any]:
        """Positional and keyword arguments of the call, with other tensors by id."""
        # Keras takes one off each list, which is read more than once in x + x.
        ids = self.node.flat_input_ids
        return self.node.map_arguments({key: [tensors[key]] * len(ids) for key in ids})


def calls(model: keras.Model) -> list[Call]:
    """Lists the layer calls of inference, each after the calls that it depends on."""
    by_depth = model._nodes_by_depth
    needed = _needed(model.outputs)
    nodes = [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input and node in needed
    ]
    uses = Counter(node.layer.name for node in nodes)
    seen: Counter[str] = Counter()
    operations: dict[str, Operation] = {}
    found = []
    for node in nodes:
        name = node.layer.name
        seen[name] += 1
        label = name if uses[name] == 1 else f"{name} (use {seen[name]})"
        layer = _at_inference(node.layer)
        operation = operations.setdefault(name, operation_of(layer, name))
        reads = inputs_of(node)
        inputs = reads[0] if _ignores_state(node) else node.input_tensors
        call = Call(
            label, name, layer, inputs, node.outputs, node, tuple(reads), operation
        )
        found.append(call)
    return found


def _needed(outputs: list[Any]) -> set[Any]:
    """The nodes that some tensors depend on at inference."""
    found, left = set(), list(outputs)
    while left:
        layer, index, _ = left.pop()._keras_history
        node = layer.inbound_nodes[index]
        if node not in found:
            found.add(node)
            left += inputs_of(node)
    return found


def _ignores_state(node: Any) -> bool:
    return isinstance(node.layer, BatchKalmanNormalization)


def inputs_of(node: Any) -> list[Any]:
    """The symbolic tensors that a call reads at inference."""
    return node.keras_inputs[:1] if _ignores_state(node) else node.keras_inputs


def _at_inference(layer: keras.layers.Layer) -> keras.layers.Layer:
    preconditioned = isinstance(layer, BatchNormalizationPreconditioning)
    return layer.layer if preconditioned else layer
