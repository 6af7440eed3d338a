"""The table of the regularizers' contract: one row per public regularizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from contract_case import Shape, normal
from larq_nobn._keras import keras
from larq_nobn.regularizers import BinaryRegularizer


@dataclass(frozen=True)
class RegularizerCase:
    """What a public regularizer promises.

    Arguments:
        cls: The class.
        shapes: Kernels it is checked at.
        oracle: NumPy float64 function of a kernel that returns penalty and gradient.
        kwargs: Arguments, with which finite differences confirm the gradient.
    """

    role: ClassVar[str] = "regularizer"
    cls: type
    shapes: tuple[Shape, ...]
    oracle: Callable[[np.ndarray], tuple[float, np.ndarray]]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[np.random.Generator, Shape], np.ndarray] = normal

    @property
    def name(self) -> str:
        return self.cls.__name__

    def make(self) -> keras.regularizers.Regularizer:
        return self.cls(**self.kwargs)


def squared_distance_to_the_mean_magnitude(
    kernel: np.ndarray,
) -> tuple[float, np.ndarray]:
    distance = np.abs(kernel).mean() - np.abs(kernel)
    return 0.3 * np.sum(distance**2), -0.6 * distance * np.sign(kernel)


CASES = (
    RegularizerCase(
        BinaryRegularizer,
        kwargs={"order": 2, "strength": 0.3},
        shapes=((3, 3, 4, 5), (3, 4, 5), (2, 2, 2, 3, 4), (6, 3)),
        oracle=squared_distance_to_the_mean_magnitude,
    ),
)
