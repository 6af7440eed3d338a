"""Names operations 'net/layer/operation', after the layer that they belong to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..._keras import keras
from ..._larq import lq
from ...loading._foreign import Foreign, foreign_of, layers_of
from ._inference import LayerCall


def layer_of(op: Any) -> str:
    """Returns the name of the layer that an operation of a trace belongs to."""
    return layer_name(op.name)


def layer_name(name: str) -> str:
    """Returns the layer in the name of an operation, 'net/layer/operation'."""
    return name.partition("/")[2].rpartition("/")[0]


def layers_by_name(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns the layers of a model by name, inner ones first."""
    return {layer.name: layer for layer in layers_of(model)}


class Names:
    """Names operations after the innermost layer of a model that they belong to.

    Those of `inputs` keep their names. `calls` has inner calls first.
    """

    def __init__(
        self, model: keras.Model, inputs: Sequence[str], calls: Sequence[LayerCall]
    ) -> None:
        inner = (lq.quantizers.Quantizer, keras.Model)  # not layers on their own
        self._layers = {
            layer.name
            for layer in layers_of(model)
            if not isinstance(layer, Foreign)
            and (not isinstance(layer, inner) or layer in model.layers)
        }
        scopes = getattr(foreign_of(model), "scopes", None)
        self._layers.update(scopes or ())
        self._by_scope = scopes is not None
        self._calls: dict[str, str] = {}
        for call in calls:
            for name in call.operations:
                self._calls.setdefault(name, call.layer.name)
        self._model, self._count = model.name, len(inputs)
        self._names = {name: name for name in inputs}

    def of(self, op: Any) -> str:
        if op.name not in self._names:
            layer, number = self._layer(op.name), len(self._names) - self._count
            # LCE limits the length of names, so the first part is short.
            last = op.name.rpartition("/")[2]
            self._names[op.name] = f"net/{layer}/{last}_{number}"
        return self._names[op.name]

    def _layer(self, name: str) -> str:
        """Returns the layer of an operation, whose name contains scopes.

        Layer names may contain slashes. Without layers, the last scope counts as one.
        """
        pieces = name.split("/")
        ends = range(len(pieces) - 1, 0, -1)
        for end in (len(pieces), *ends) if self._calls else ():
            if known := self._calls.get("/".join(pieces[:end])):
                return known
        scopes = ["/".join(pieces[i:j]) for j in ends for i in range(j)]
        for scope in (*scopes, pieces[-1]):
            for known in (scope, re.sub(r"_\d+$", "", scope)):
                if known in self._layers:
                    return known
        own = self._by_scope and [x for x in pieces[:-1] if "PartitionedCall" not in x]
        return own[-1] if own else str(self._model)
