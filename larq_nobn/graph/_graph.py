"""Who makes a tensor of a model, and who reads it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import tensorflow as tf

from .._keras import keras
from ._calls import Call, calls, inputs_of


class Graph:
    """The calls of a functional model at inference, and how they hang together.

    Arguments:
        model: A functional model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.calls = calls(model)
        self._producer: dict[int, Call] = {}
        self._consumers: dict[int, list[Call]] = defaultdict(list)
        self._uses: dict[str, list[Call]] = defaultdict(list)
        self._ends = {id(tensor) for tensor in model.outputs}
        for call in self.calls:
            self._uses[call.name].append(call)
            for tensor in tf.nest.flatten(call.outputs):
                self._producer[id(tensor)] = call
            # Not the inputs of the call alone: tensors may come as other arguments.
            for key in {id(tensor): None for tensor in inputs_of(call.node)}:
                self._consumers[key].append(call)

    def producer(self, tensor: Any) -> Call | None:
        """The call that makes a tensor; None for an input of the model."""
        return self._producer.get(id(tensor))

    def consumers(self, tensor: Any) -> list[Call]:
        """The calls that read a tensor, in order, each once."""
        return self._consumers[id(tensor)]

    def is_output(self, tensor: Any) -> bool:
        """Whether a tensor is an output of the model."""
        return id(tensor) in self._ends

    def sole_consumer(self, tensor: Any) -> Call | None:
        """The call that reads a tensor, if it is the only use that is made of it."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and not self.is_output(tensor) else None

    def uses(self, name: str) -> list[Call]:
        """All calls of the layer of that name."""
        return self._uses[name]
