"""Weights of one network for another one, by name and shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..._keras import keras
from ...models._weights import weights_by_name

# As many names as a sentence can bear.
_NAMED = 6


@dataclass(frozen=True)
class Transfer:
    """What became of the weights of two networks, by their names.

    Arguments:
        source: Where the weights come from.
        taken: Weights of the new network that have those of the same name.
        fresh: Weights of the new network that start as without a source.
        left: Weights of the source that the new network has no place for.
    """

    source: str
    taken: list[str]
    fresh: list[str]
    left: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns what `run.json` and checkpoints hold."""
        return asdict(self)

    def __str__(self) -> str:
        total = len(self.taken) + len(self.fresh)
        said = f"{self.source} gave {len(self.taken)} of {total} weights."
        if self.fresh:
            said += f" Fresh: {_listed(self.fresh)}."
        if self.left:
            said += f" Of its own not taken: {_listed(self.left)}."
        return said


def transfer(source: keras.Model, target: keras.Model, name: str) -> Transfer:
    """Gives a network the weights of another one that fit by name and shape.

    Layers are matched by their names, also in models inside the models, and weights by
    the last part of theirs. A layer of which a weight has another shape, as a
    classifier of other classes, starts fresh with all of its weights. Latent weights
    are taken, not their signs.

    Arguments:
        source: Whose weights are taken.
        target: Who gets them; keeps its own where nothing fits.
        name: What the report calls the source.

    Raises:
        ValueError: If not a single weight fits.
    """
    given, places = weights_by_name(source), weights_by_name(target)
    common = [key for key in places if key in given]
    other = {_layer(key) for key in common if given[key].shape != places[key].shape}
    fitting = [key for key in common if _layer(key) not in other]
    if not fitting:
        raise ValueError(
            f"No weight of init={name!r} fits the network {target.name} by name and "
            "shape. Give the model, width and blocks that it was trained with, or "
            "leave the model out to train the network of init itself."
        )
    for key in fitting:
        places[key].assign(given[key].numpy())
    taken = set(fitting)
    return Transfer(
        source=name,
        taken=fitting,
        fresh=[key for key in places if key not in taken],
        left=[key for key in given if key not in taken],
    )


def _layer(key: str) -> str:
    return key.rpartition("/")[0]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
