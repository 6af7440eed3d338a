"""What `class_center_alignment` finds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from .._tables import as_text


@dataclass(frozen=True)
class ClassCenterAlignment:
    """Angles between the weight vectors of a classifier and its class centers.

    Numbers that do not exist, such as the cosine of a class without examples, are NaN.

    Attributes:
        layer: The last dense layer.
        examples: Number of examples of each class.
        cosine: Of each class, between weight vector and mean feature vector.
        weight_norm: Length of each weight vector.
        center_norm: Length of each mean feature vector.
        weight_sum_norm: Length of the sum of all weight vectors.
        angle_mean: Mean of the angles between any two weight vectors, in degrees.
        angle_std: Their standard deviation (population).
        angle_min: The smallest.
        angle_max: The largest.
    """

    layer: str
    examples: tuple[int, ...]
    cosine: tuple[float, ...]
    weight_norm: tuple[float, ...]
    center_norm: tuple[float, ...]
    weight_sum_norm: float
    angle_mean: float
    angle_std: float
    angle_min: float
    angle_max: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types, NaN as None."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def table(self) -> Table:
        """Returns the findings as a `rich` table."""
        table = Table(
            title=f"Class centers at {self.layer}",
            title_justify="left",
            caption=(
                f"angles between weight vectors {self.angle_mean:.1f}° ± "
                f"{self.angle_std:.1f}° ({self.angle_min:.1f}° to "
                f"{self.angle_max:.1f}°), length of their sum "
                f"{self.weight_sum_norm:.3g}"
            ),
            caption_justify="left",
        )
        for column in ("class", "examples", "cosine", "|weights|", "|center|"):
            table.add_column(column, justify="right")
        rows = zip(
            self.examples, self.cosine, self.weight_norm, self.center_norm, strict=True
        )
        for number, (examples, cosine, weights, center) in enumerate(rows):
            numbers = (f"{cosine:.3f}", f"{weights:.3g}", f"{center:.3g}")
            table.add_row(str(number), str(examples), *numbers)
        return table

    def __str__(self) -> str:
        return as_text(self.table())


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
