"""The table of the regularizers' contract: one row per public regularizer."""

from __future__ import annotations

import numpy as np
from contract_case import PENALTY, Case
from larq_nobn.regularizers import BinaryRegularizer


def squared_distance_to_the_mean_magnitude(kernel: np.ndarray) -> tuple:
    """The penalty and its gradient."""
    distance = np.abs(kernel).mean() - np.abs(kernel)
    return 0.3 * np.sum(distance**2), -0.6 * distance * np.sign(kernel)


CASES = (
    Case(
        BinaryRegularizer,
        role=PENALTY,
        kwargs={"order": 2, "strength": 0.3},
        shapes=((3, 3, 4, 5), (3, 4, 5), (2, 2, 2, 3, 4), (6, 3)),
        oracle=squared_distance_to_the_mean_magnitude,
        inference="removed",
    ),
)
