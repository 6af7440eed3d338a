"""Layers that a gain and a bias per channel can pass from either side."""

from __future__ import annotations

import numpy as np

from ...graph import Call, passage
from ._plan import NotExact, Scaling


def passes(call: Call, scaling: Scaling) -> Scaling | None:
    """What stands behind a layer in the place of a gain and a bias before it.

    None if the layer does not make k y + c of k x + c where it makes y of x. Dropout
    does so at inference only: what is trained would not be the same any more.

    Raises:
        NotExact: If it would, but for some negative k.
    """
    known = passage(call)
    if not (known.gain and known.shift):
        return None
    if not known.negative and np.any(scaling.gain < 0):
        raise NotExact(
            f"some gains are negative, and {call.described} takes the maximum"
        )
    return scaling.at_positions(call.outputs.shape[-1]) if known.tiles else scaling


def keeps_channels(call: Call) -> bool:
    """Whether the channels behind such a layer are those before it."""
    return not passage(call).tiles
