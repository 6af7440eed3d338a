"""SymmetricHead: class vectors in a plane, by the chain rule in full matrices."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case
from contract_oracles import Weights
from larq_nobn.layers import SymmetricHead


def symmetric_head(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, classes: int
) -> Weights:
    first, second = weights["plane"].T
    e1 = first / np.linalg.norm(first)
    rest = second - (e1 @ second) * e1
    e2 = rest / np.linalg.norm(rest)
    one = np.eye(len(first))
    of_e1 = (one - np.outer(e1, e1)) / np.linalg.norm(first)
    of_e2 = (one - np.outer(e2, e2)) / np.linalg.norm(rest)
    rest_by_e1 = -np.outer(e1, second) - (e1 @ second) * one
    turns = 2 * np.pi * np.arange(classes) / classes
    directions = np.stack([np.cos(turns), np.sin(turns)])
    vectors = np.stack([e1, e2], 1) @ directions
    g1, g2 = weights["scale"] * (x.T @ upstream @ directions.T).T
    return {
        "x": weights["scale"] * upstream @ vectors.T,
        "plane": np.stack(
            [
                (g1 + g2 @ of_e2 @ rest_by_e1) @ of_e1,
                g2 @ of_e2 @ (one - np.outer(e1, e1)),
            ],
            1,
        ),
        "scale": np.sum(upstream * (x @ vectors)),
    }


ROWS = (
    Case(
        SymmetricHead,
        kwargs={"classes": 5, "scale": 2.0},
        shapes=((4, 6), (3, 2)),
        weights=("plane", "scale"),
        smooth=True,
        oracle=partial(symmetric_head, classes=5),
        inference="kept",
        float_ops={"FULLY_CONNECTED": 1},
        lce_bconv2d=0,
    ),
)
