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
        tried: Which of them are trained and converted; None for all. Few are enough
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
    Network(ReActNet18, (8, 8, 1), _PAIR, 2, 2),
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
# By `fit`, whose graph takes five times as long as eager steps: what learns shifts and
# slopes, what has moving statistics or a state, what computes them from the kernels.
FITTED = (ReActNet18, BiRealNet18, ResNet20, BinaryDenseNet28)
# Of the other pairs: three normalizations in every network, and every one in three
# networks, where it stands in residual blocks, between dense ones and before signs.
EVERYWHERE = ("batch_norm", "none", "nobn")
EVERY_PLACE = (ReActNet18, BinaryDenseNet28, BinaryAlexNet)
CONVERTED, REST = {}, {}
for n, norm in PAIRS:
    if norm not in TRAINED.get(n.builder, ()):
        converts = norm in EVERYWHERE or n.builder in EVERY_PLACE
        (CONVERTED if converts else REST).setdefault(n.builder, []).append(norm)
CONVERTING = [(n, norm) for n, norm in PAIRS if norm not in REST.get(n.builder, ())]


def scattered(model: keras.Model) -> keras.Model:
    """Moves gains, shifts, slopes and statistics to where training may leave them."""
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(weight + rng.uniform(0.05, 0.2, weight.shape))
    return model
