"""ChannelAffine: what is left of a batch norm that cannot be folded."""

from __future__ import annotations

import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn.layers import ChannelAffine


def channel_affine(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    return {
        "x": weights["gamma"] * upstream,
        "gamma": per_channel(upstream * x),
        "beta": per_channel(upstream),
    }


ROWS = (
    Case(
        ChannelAffine,
        role="layer",
        alias=None,
        shapes=((2, 4, 4, 3), (4, 3), (2, 5, 3), (2, 3, 2, 2, 3)),
        weights=("gamma", "beta"),
        smooth=True,
        oracle=channel_affine,
        inference="folded",
        float_ops={},
    ),
)
