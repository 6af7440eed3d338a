"""The table of networks: one row subjects a builder to every shared test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from larq_nobn._keras import keras
from larq_nobn.models import (
    NORMALIZATIONS,
    BinaryAlexNet,
    BinaryDenseNet28,
    BinaryDenseNet37,
    BinaryDenseNet45,
    BiRealNet18,
    MeliusNet22,
    MeliusNet29,
    QuickNet,
    QuickNetLarge,
    QuickNetSmall,
    ReActNet18,
    ReActNetA,
    ResNet20,
    VGGSmall,
    XNORNet18,
)


@dataclass(frozen=True)
class Network:
    """A builder in a form that is small enough to test.

    Arguments:
        builder: The public function.
        shape: Of the images, the smallest sensible ones.
        small: Arguments that make the network small.
        binary: How many binary convolutions the small network has, worked out by hand.
        smallest: The side of the smallest image that the small network takes.
        normalizations: Which it supports.
        tried: Which of them take a step or are converted; None for all. Few are enough
            where nothing but numbers sets a network apart from another one.
    """

    builder: Callable[..., keras.Model]
    shape: tuple[int, int, int]
    small: dict[str, Any]
    binary: int
    smallest: int
    normalizations: tuple[str, ...] = NORMALIZATIONS
    tried: tuple[str, ...] | None = None

    def __call__(
        self, normalization: str = "nobn", classes: int = 3, **changes: Any
    ) -> keras.Model:
        arguments = {**self.small, **changes}
        return self.builder(self.shape, classes, normalization, **arguments)

    def images(self, count: int = 8) -> np.ndarray:
        rng = np.random.default_rng(1)
        return rng.normal(size=(count, *self.shape)).astype(np.float32)


_NOT_KALMAN = tuple(name for name in NORMALIZATIONS if name != "kalman")
_BEFORE_SIGN = tuple(n for n in NORMALIZATIONS if n not in ("proxy", "evonorm"))
_PAIR = {"width": 8, "blocks": (1, 1)}
NETWORKS = (
    # Of as many channels as LCE packs into a word, and so of several groups.
    Network(ReActNet18, (8, 8, 1), {"width": 32, "blocks": (1, 1)}, 2, 2),
    Network(ReActNetA, (8, 8, 1), {"width": 4, "blocks": (1, 1)}, 6, 2),
    Network(BiRealNet18, (8, 8, 1), {"width": 8, "blocks": (1, 2)}, 3, 2),
    Network(XNORNet18, (8, 8, 1), {"width": 8, "blocks": (1, 2)}, 3, 2, _BEFORE_SIGN),
    Network(ResNet20, (8, 8, 1), {"width": 8, "blocks": (1, 1)}, 4, 2),
    Network(VGGSmall, (8, 8, 1), {"width": 8}, 5, 8, _BEFORE_SIGN),
    Network(BinaryAlexNet, (8, 8, 1), {"width": 2}, 6, 8, _BEFORE_SIGN),
    Network(
        BinaryDenseNet28, (8, 8, 1), {"width": 8, "blocks": (1, 2)}, 3, 2, _NOT_KALMAN
    ),
    Network(
        BinaryDenseNet37,
        (8, 8, 1),
        {"width": 8, "blocks": (1, 1, 1), "dilated": True},
        3,
        2,
        _NOT_KALMAN,
        ("batch_norm", "none", "nobn"),
    ),
    Network(BinaryDenseNet45, (8, 8, 1), _PAIR, 2, 2, _NOT_KALMAN, ("nobn",)),
    Network(MeliusNet22, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN),
    Network(MeliusNet29, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN, ("nobn",)),
    Network(QuickNetSmall, (8, 8, 1), _PAIR, 2, 2, _NOT_KALMAN, ("nobn",)),
    Network(QuickNet, (8, 8, 1), {"width": 8, "blocks": (1, 2)}, 3, 2, _NOT_KALMAN),
    Network(QuickNetLarge, (8, 8, 1), _PAIR, 2, 2, _NOT_KALMAN, ("nobn",)),
)
PAIRS = [(n, norm) for n in NETWORKS for norm in n.tried or n.normalizations]


# From the first step to the file. Every design of a network once, and every
# normalization where it meets most code of its own.
TRAINED = {
    ReActNet18: ["nobn"],
    ReActNetA: ["independent_component"],  # convolutions share flipped signs
    BiRealNet18: ["batch_norm"],
    XNORNet18: ["none"],  # in front of signs, on features of no scale
    ResNet20: ["kalman"],  # moments through sums, clips and padded channels
    VGGSmall: ["group"],  # between pools and signs
    BinaryAlexNet: ["filter_response"],  # of a single position it learns ε
    BinaryDenseNet28: ["proxy"],  # takes the place of rectifiers, and so
    MeliusNet22: ["evonorm"],  # does this
    QuickNet: ["nobn"],
}
# By `fit` too, whose graph takes five times as long as a step: what learns shifts and
# slopes, what has moving statistics or a state, what computes them from the kernels.
FITTED = (ReActNet18, BiRealNet18, ResNet20, BinaryDenseNet28)
# Of the other pairs those whose file has something of its own. Batch norm and what
# stands in its place are in every design, where their operations are compared. Whatever
# else normalizes is in two networks or more, TRAINED included, of which the second has
# it in another place: in residual blocks, between dense ones or before signs.
_COMPARED = ["batch_norm", "nobn"]
CONVERTED = {
    # Nothing at all in residual blocks; several groups of channels, evonorm inside and
    # group norm at the shortcut; rectifiers behind proxy norm.
    ReActNet18: ["batch_norm", "none", "filter_response", "proxy", "evonorm"],
    ReActNetA: _COMPARED,
    BiRealNet18: ["nobn"],
    # Before signs, past sums: moments, which are none in the file, and flipped signs.
    XNORNet18: [*_COMPARED, "kalman", "independent_component"],
    ResNet20: [*_COMPARED, "none"],  # which needs more additions than batch norm
    VGGSmall: _COMPARED,
    BinaryAlexNet: _COMPARED,
    # Between dense layers, where one group has all channels.
    BinaryDenseNet28: [*_COMPARED, "none", "group", "independent_component"],
    BinaryDenseNet37: _COMPARED,  # dilated
    MeliusNet22: _COMPARED,
    QuickNet: ["batch_norm", "none"],  # more additions here too
}
REST: dict[Callable[..., keras.Model], list[str]] = {}
CONVERTING = []
for n, norm in PAIRS:
    if norm in (*TRAINED.get(n.builder, ()), *CONVERTED.get(n.builder, ())):
        CONVERTING.append((n, norm))
    else:
        REST.setdefault(n.builder, []).append(norm)


def scattered(model: keras.Model) -> keras.Model:
    """Moves gains, shifts, slopes and statistics to where training may leave them."""
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(weight + rng.uniform(0.05, 0.2, weight.shape))
    return model
