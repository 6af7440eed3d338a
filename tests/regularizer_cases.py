"""The table of the regularizers' contract: one row per public regularizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from contract_case import Shape, normal
from larq_nobn._keras import keras
from larq_nobn.regularizers import BinaryRegularizer


@dataclass(frozen=True)
class RegularizerCase:
    """A class, its arguments, kernels it is checked at, and penalty and gradient."""

    role: ClassVar[str] = "regularizer"
    draw: ClassVar[Any] = staticmethod(normal)
    cls: type
    kwargs: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    oracle: Callable[[np.ndarray], tuple[float, np.ndarray]]

    @property
    def name(self) -> str:
        return self.cls.__name__

    def make(self) -> keras.regularizers.Regularizer:
        return self.cls(**self.kwargs)


def squared_distance_to_the_mean_magnitude(kernel: np.ndarray) -> tuple:
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
