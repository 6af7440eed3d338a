"""The units of locally connected layers: the weights of one output value."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ._clipping import Axes, Runs

# What Keras and Larq call such a layer if nobody has named it.
_NAME = re.compile(r"(^|_)locally_connected[12]d(_\d+)?$")

# By the rank of the kernel, which is (positions, taps and inputs, filters) in one
# implementation and (inputs, outputs), each with all their axes, in another.
_BY_RANK: dict[int, Axes] = {3: (1,), 4: (0, 1), 6: (0, 1, 2)}


def local_units(layer: Any) -> Axes | Runs:
    """Returns the units of the kernel of a built layer.

    Implementation 2 has weights that no output reads. They count in the norm of the
    weights, where they make the limit larger.
    """
    if layer.implementation != 3:
        return _BY_RANK[len(layer.kernel.shape)]
    # A vector of the weights in the order of the outputs; at a border there are fewer.
    outputs = [output for output, _ in layer.kernel_idxs]
    return Runs(tuple(np.bincount(outputs).tolist()))


def local_units_by_name(owner: str, leaf: str, rank: int) -> Axes | None:
    """Returns the units of a weight, if the name of its layer tells them."""
    if not _NAME.search(owner):
        return None
    return _BY_RANK.get(rank) if leaf == "kernel" else tuple(range(rank))


def is_flat_local_kernel(owner: str, leaf: str, rank: int) -> bool:
    """Tells whether only the layer itself knows the units of a weight."""
    return bool(_NAME.search(owner)) and leaf == "kernel" and rank == 1
