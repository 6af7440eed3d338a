"""Layers that a gain and a bias per channel can pass from either side."""

from __future__ import annotations

import numpy as np

from .._keras import keras
from ..graph import Call
from ._fold_plan import NotExact, Scaling
from ._pools import MAXIMA, MEANS


def is_pool(call: Call) -> bool:
    """Tells whether a call pools each channel over positions."""
    return type(call.layer) in (*MEANS, *MAXIMA)


def passes(call: Call, scaling: Scaling) -> bool:
    """Tells whether a layer makes k y + c of k x + c where it makes y of x.

    Raises:
        NotExact: If it would, but for some negative k.
    """
    if type(call.layer) not in (*MEANS, *MAXIMA, keras.layers.Flatten):
        return False
    if getattr(call.layer, "data_format", "channels_last") != "channels_last":
        return False
    if type(call.layer) in MAXIMA and np.any(scaling.gain < 0):
        raise NotExact(
            f"some gains are negative, and {call.described} takes the maximum"
        )
    return True
