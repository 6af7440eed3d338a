"""What shall become of each layer of a model, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..._keras import keras
from ...graph import Call, Graph, Steps
from .._linear import Linear, linear_of


class NotExact(Exception):
    """Why gain and bias cannot go somewhere, as half a sentence for the report."""


@dataclass(frozen=True)
class Scaling:
    """A gain and a bias per channel, (C,) each, and whether they were trained."""

    gain: np.ndarray
    bias: np.ndarray
    trainable: bool

    def at_positions(self, features: int) -> Scaling:
        """That of all positions in a row, as channels of their own."""
        times = features // self.gain.size
        gain, bias = np.tile(self.gain, times), np.tile(self.bias, times)
        return Scaling(gain, bias, self.trainable)


@dataclass(frozen=True)
class Affine:
    """A gain and a bias per channel, as a layer of that name."""

    name: str
    scaling: Scaling
    dtype: str


@dataclass(frozen=True)
class Shift:
    """An `RSign` in the place of another sign, and its shift per channel."""

    scale: float
    estimator: str
    power: float
    values: np.ndarray
    dtype: str
    trainable: bool


@dataclass
class Plan:
    """Changes to the layers of a model, by their names.

    Arguments:
        graph: The model.
        steps: Of its tensors that are whole numbers of steps, by their ids.
        dropped: Layers that let their input through.
        affine: Layers that become a `ChannelAffine`.
        moved: Layers that are called where the layer of the key was.
        signs: Layers that are signs, or have one in front, with a shift from now on.
        turned: The channels, (C,), in which such a sign is the opposite from now on.
    """

    graph: Graph
    steps: Mapping[int, Steps] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    affine: dict[str, Affine] = field(default_factory=dict)
    moved: dict[str, keras.layers.Layer] = field(default_factory=dict)
    signs: dict[str, Shift] = field(default_factory=dict)
    turned: dict[str, np.ndarray] = field(default_factory=dict)
    _linear: dict[str, Linear] = field(default_factory=dict)

    def linear(self, call: Call, place: str = "before it") -> Linear:
        """Kernel and bias of a layer, as planned so far; to be written to.

        Arguments:
            call: A use of the layer.
            place: Where that lies, as seen from the batch norm.

        Raises:
            NotExact: If it is no layer that is known to be linear.
        """
        if call.name not in self._linear:
            found = linear_of(call.layer)
            if found is None:
                raise NotExact(f"{call.described} lies {place}")
            self._linear[call.name] = found
        return self._linear[call.name]

    def edited(self, name: str) -> Linear | None:
        """What is planned for the kernel and bias of a layer, if anything."""
        linear = self._linear.get(name)
        return linear if linear is not None and linear.changed else None

    def check_trains(self, call: Call, scaling: Scaling) -> None:
        """Raises for a frozen layer, where what is trained would not be any more.

        Raises:
            NotExact: Naming the layer.
        """
        if scaling.trainable and not call.layer.trainable:
            raise NotExact(f"{call.name!r} is frozen")

    def is_shared(self, call: Call) -> bool:
        return len(self.graph.uses(call.name)) > 1
