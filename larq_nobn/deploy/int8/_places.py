"""Where a model needs the ranges of feature maps to be computed in int8."""

from __future__ import annotations

from typing import Any

import larq as lq

from ..._keras import keras
from ...graph import TRAINING_ONLY, Call, Graph, is_binary_convolution, sign_of
from ...layers import FakeQuantization, ThresholdedLinearUnit
from ._shifts import AFFINE, ChannelShift, is_linear

_layers = keras.layers
# What they return lies among the 256 values of what they are given.
KEEPS = (
    _layers.MaxPooling2D,
    _layers.GlobalMaxPooling2D,
    _layers.ZeroPadding2D,
    _layers.Cropping2D,
    _layers.Flatten,
    _layers.Reshape,
    _layers.Permute,
    _layers.Concatenate,
    _layers.Maximum,
    _layers.Minimum,
    *TRAINING_ONLY,
)
# TensorFlow Lite wants the range of their input for their output, too.
_SHARES = (_layers.AveragePooling2D, _layers.UpSampling2D, ThresholdedLinearUnit)
_POOLS = (_layers.MaxPooling2D, _layers.AveragePooling2D)
# TensorFlow Lite fixes the range of these: [0, 1] or [-1, 1].
_FIXED = (
    keras.activations.softmax,
    keras.activations.sigmoid,
    keras.activations.tanh,
)
# TensorFlow Lite computes these with the convolution, sum or pool in front.
_RECTIFIERS = (keras.activations.relu, lq.activations.hard_tanh)


class Places:
    """The layers behind which a range is needed, and which of them share one.

    Arguments:
        model: A functional model, with a `FakeQuantization` behind each float input.

    Attributes:
        groups: For the name of each such layer, that of the first with the same range.
    """

    def __init__(self, model: keras.Model) -> None:
        self._graph = Graph(model)
        self._parents: dict[str, str] = {}
        self._ranges: dict[int, str] = {}  # whose range a tensor has, by id
        for call in self._graph.calls:
            self._visit(call)
        self.groups = {name: self._root(name) for name in self._parents}

    def _visit(self, call: Call) -> None:
        taken = [
            self._ranges[id(x)] for x in call.node.keras_inputs if id(x) in self._ranges
        ]
        keeps = isinstance(call.layer, KEEPS)
        shares = isinstance(call.layer, _SHARES) or self._clips_pool(call)
        if keeps or shares:
            for other in taken[1:]:
                self._join(taken[0], other)
        if keeps and taken:
            self._ranges[id(call.first_output)] = taken[0]
        elif not keeps and self._needs_range(call):
            self._parents.setdefault(call.name, call.name)
            self._ranges[id(call.first_output)] = call.name
            if shares and taken:
                self._join(taken[0], call.name)

    def _needs_range(self, call: Call) -> bool:
        layer = call.layer
        if isinstance(layer, FakeQuantization):
            return True
        if sign_of(layer) is not None or _activation(layer) in _FIXED:
            return False
        reader = self._graph.sole_consumer(call.first_output)
        return reader is None or not self._fuses(call, reader)

    def _fuses(self, call: Call, reader: Call) -> bool:
        """Whether one operation computes both, so that nobody sees what is between."""
        if isinstance(reader.layer, (*AFFINE, ChannelShift)):
            return is_linear(call, self._graph)
        if not _rectifies(reader.layer):
            return False
        if type(call.layer) is _layers.Add:
            return True
        return is_linear(call, self._graph) and not self._is_binary(call)

    def _clips_pool(self, call: Call) -> bool:
        """Whether a pool clips its output, and so to numbers of its own range."""
        before = self._graph.producer(call.first_input)
        pools = before is not None and isinstance(before.layer, _POOLS)
        return pools and _rectifies(call.layer)

    def _is_binary(self, call: Call) -> bool:
        while isinstance(call.layer, (*AFFINE, ChannelShift)):
            before = self._graph.producer(call.first_input)
            assert before is not None  # is_linear has followed the same path
            call = before
        return is_binary_convolution(call)

    def _root(self, name: str) -> str:
        while self._parents[name] != name:
            name = self._parents[name]
        return name

    def _join(self, first: str, second: str) -> None:
        self._parents[self._root(second)] = self._root(first)


def _activation(layer: keras.layers.Layer) -> Any:
    if isinstance(layer, _layers.Softmax):
        return keras.activations.softmax
    return getattr(layer, "activation", None)


def _rectifies(layer: keras.layers.Layer) -> bool:
    if type(layer) is _layers.Activation:
        return layer.activation in _RECTIFIERS
    if type(layer) is _layers.ReLU:
        plain = not layer.threshold and not layer.negative_slope
        return plain and layer.max_value in (None, 6)
    return False
