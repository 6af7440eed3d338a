"""Random draws inside a network, as a function of seed, epoch and step alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..._keras import keras


@contextmanager
def own_generators() -> Iterator[None]:
    """Gives each random layer that is built inside a generator of its own.

    Keras' usual random operations keep their state where nothing can read or set it,
    and repeat themselves when the seed of the process is set again.
    """
    experimental = keras.backend.experimental
    before = experimental.is_tf_random_generator_enabled()
    experimental.enable_tf_random_generator()
    try:
        yield
    finally:
        if not before:
            experimental.disable_tf_random_generator()


class Reseeding(keras.callbacks.Callback):
    """Sets the generators of a network at the begin of each epoch.

    What dropout and its like draw in epoch e then depends on the seed, e and the place
    of the layer only, and a run that goes on at epoch e draws it too. Replicas draw
    differently from each other.

    Arguments:
        seed: That of the run.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets them."""
        for place, generator in enumerate(_generators(self.model)):
            entropy = np.random.SeedSequence([self._seed, epoch, place])
            state = entropy.generate_state(generator.state.shape[0], np.uint64)
            generator.reset(state.view(np.int64))

    def get_state(self) -> list[list[int]]:
        """Returns where the generators are within the epoch, alike in all replicas."""
        return [each.state.numpy().tolist() for each in _generators(self.model)]

    def set_state(self, state: list[list[int]]) -> None:
        """Goes on from there."""
        for generator, its in zip(_generators(self.model), state, strict=True):
            generator.reset(np.array(its, np.int64))


def _generators(model: keras.Model) -> list[Any]:
    """The generators of all layers, in an order that the architecture decides."""
    holders = (getattr(each, "_random_generator", None) for each in model.submodules)
    found = (getattr(holder, "_generator", None) for holder in holders)
    return [generator for generator in found if generator is not None]
