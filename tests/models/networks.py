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
    DoReFaNet,
    MeliusNet22,
    MeliusNet29,
    MeliusNet42,
    MeliusNet59,
    MeliusNetA,
    MeliusNetB,
    MeliusNetC,
    QuickNet,
    QuickNetLarge,
    QuickNetSmall,
    ReActNet18,
    ReActNet34,
    ReActNetA,
    ReCUResNet18,
    ReCUResNet34,
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
        own: Whether it is a design of its own: more than numbers set it apart.
    """

    builder: Callable[..., keras.Model]
    shape: tuple[int, int, int]
    small: dict[str, Any]
    binary: int
    smallest: int
    normalizations: tuple[str, ...] = NORMALIZATIONS
    own: bool = True

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
    Network(ReActNet34, (8, 8, 1), _PAIR, 2, 2, own=False),
    Network(ReActNetA, (8, 8, 1), {"width": 4, "blocks": (1, 1)}, 6, 2),
    Network(ReCUResNet18, (8, 8, 1), _PAIR, 2, 2, own=False),
    Network(ReCUResNet34, (8, 8, 1), _PAIR, 2, 2, own=False),
    Network(BiRealNet18, (8, 8, 1), {"width": 8, "blocks": (1, 2)}, 3, 2),
    Network(XNORNet18, (8, 8, 1), {"width": 8, "blocks": (1, 2)}, 3, 2, _BEFORE_SIGN),
    Network(ResNet20, (8, 8, 1), {"width": 8, "blocks": (1, 1)}, 4, 2),
    Network(VGGSmall, (8, 8, 1), {"width": 8}, 5, 8, _BEFORE_SIGN),
    Network(BinaryAlexNet, (8, 8, 1), {"width": 2}, 6, 8, _BEFORE_SIGN),
    Network(DoReFaNet, (8, 8, 1), {"width": 3}, 6, 8, _BEFORE_SIGN),
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
        own=False,
    ),
    Network(BinaryDenseNet45, (8, 8, 1), _PAIR, 2, 2, _NOT_KALMAN, False),
    # Has all that MeliusNetA has but for groups.
    Network(MeliusNet22, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN, False),
    Network(MeliusNet29, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN, False),
    Network(MeliusNet42, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN, False),
    Network(MeliusNet59, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN, False),
    Network(MeliusNetA, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN),
    Network(MeliusNetB, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN, False),
    Network(MeliusNetC, (8, 8, 1), _PAIR, 4, 2, _NOT_KALMAN, False),
    Network(QuickNetSmall, (8, 8, 1), _PAIR, 2, 2, _NOT_KALMAN, False),
    Network(QuickNet, (8, 8, 1), {"width": 8, "blocks": (1, 2)}, 3, 2, _NOT_KALMAN),
    Network(QuickNetLarge, (8, 8, 1), _PAIR, 2, 2, _NOT_KALMAN, False),
)

# Which pairs of a network and a normalization take a step: every design of a network,
# and every normalization where it meets most code of its own. A network knows no more
# of a normalization than whether it is none at all, kernels that do without, a layer,
# one that takes the place of ReLUs as well, or one of the two that `Parts` and
# `PropagatedMoments` build in their own way.
STEPPED = {
    ReActNet18: ["nobn"],
    ReActNetA: ["independent_component"],  # convolutions share flipped signs
    ReCUResNet18: ["batch_norm"],  # kernels with a scale of their own
    BiRealNet18: ["batch_norm"],
    # Before signs, on features of no scale, or as thresholds.
    XNORNet18: ["none", "dynamic_tanh"],
    ResNet20: ["kalman"],  # moments through sums, clips and padded channels
    VGGSmall: ["group"],  # between pools and signs
    BinaryAlexNet: ["filter_response"],  # of a single position it learns ε
    DoReFaNet: ["batch_norm"],  # a bias, but no norm, in the first layer
    # In place of ReLUs, and components before the real-valued kernels of transitions.
    BinaryDenseNet28: ["proxy", "independent_component"],
    BinaryDenseNet37: ["nobn"],  # dilated
    MeliusNet22: ["evonorm"],
    MeliusNetA: ["nobn"],  # groups of shuffled channels
    QuickNet: ["nobn", "evonorm"],  # in place of the ReLU within a binary convolution
}
NETWORK = {network.builder: network for network in NETWORKS}
MET = [
    (NETWORK[builder], normalization)
    for builder, normalizations in STEPPED.items()
    for normalization in normalizations
]


def scattered(model: keras.Model) -> keras.Model:
    """Moves gains, shifts, slopes and statistics to where training may leave them."""
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(weight + rng.uniform(0.05, 0.2, weight.shape))
    return model
