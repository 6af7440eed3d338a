"""The names of operations: 'net/layer/operation', after the layer that they are of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..._keras import keras
from ..._larq import lq


def layer_of(op: Any) -> str:
    """The name of the layer that an operation of a trace is of."""
    return layer_name(op.name)


def layer_name(name: str) -> str:
    """The name of the layer in that of an operation, 'net/layer/operation'."""
    return name.partition("/")[2].rpartition("/")[0]


def layers_by_name(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns the layers of a model; those inside before those around them."""
    return {layer.name: layer for layer in model._flatten_layers(include_self=False)}


class Names:
    """Names operations after the innermost layer of a model that they are of.

    Arguments:
        model: The model.
        inputs: The operations that keep their names.
    """

    def __init__(self, model: keras.Model, inputs: Sequence[str]) -> None:
        inner = (lq.quantizers.Quantizer, keras.Model)  # of a layer, or of layers
        self._layers = {
            layer.name
            for layer in model._flatten_layers(include_self=False)
            if not isinstance(layer, inner) or layer in model.layers
        }
        self._model, self._count = model.name, len(inputs)
        self._names = {name: name for name in inputs}

    def of(self, op: Any) -> str:
        """The name of an operation, by that which it has in the graph of a model."""
        if op.name not in self._names:
            layer, number = self._layer(op.name), len(self._names) - self._count
            # The short name in front leaves room in LCE.
            last = op.name.rpartition("/")[2]
            self._names[op.name] = f"net/{layer}/{last}_{number}"
        return self._names[op.name]

    def _layer(self, name: str) -> str:
        """Names may have slashes; a convolution is the last part of its own scope."""
        parts = name.split("/")
        ends = range(len(parts) - 1, 0, -1)
        scopes = ["/".join(parts[i:j]) for j in ends for i in range(j)]
        for scope in (*scopes, parts[-1]):
            for known in (scope, re.sub(r"_\d+$", "", scope)):
                if known in self._layers:
                    return known
        return str(self._model)
