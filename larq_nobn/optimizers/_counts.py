"""How many units a clipping optimizer has clipped, kept on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class ClipCounts:
    """Clipped units and all units that met the clipping, for each variable.

    Every step adds to two rows of integers, inside the compiled step. They belong to
    nobody's state: they are in no file and no checkpoint.

    Arguments:
        variables: The variables to count for; others are passed over.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self.variables = tuple(variables)
        self._places = {id(v): place for place, v in enumerate(self.variables)}
        # Each replica sees the same aggregated gradients, so any one of them will do.
        self._totals = tf.Variable(
            tf.zeros((2, len(self.variables)), tf.int64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="clipped_units",
        )

    def is_for(self, variables: Sequence[Any]) -> bool:
        """Tells whether these are the variables, in their order."""
        return list(map(id, variables)) == list(map(id, self.variables))

    def add(
        self, factors: tf.Tensor, owners: np.ndarray, variables: Sequence[Any]
    ) -> None:
        """Counts one step.

        Arguments:
            factors: What the gradient of each unit was multiplied by.
            owners: The index in `variables` of the owner of each unit; negative for
                what is not clipped.
            variables: The variables of the step.
        """
        # The last entry is for -1: a unit of nobody.
        places = np.array([self._places.get(id(v), -1) for v in variables] + [-1])
        of_unit = places[owners]
        clipped = tf.math.unsorted_segment_sum(
            tf.cast(factors < 1, tf.int64), of_unit, len(self.variables)
        )
        seen = np.bincount(of_unit[of_unit >= 0], minlength=len(self.variables))
        self._totals.assign_add(tf.stack([clipped, tf.constant(seen, tf.int64)]))

    def totals(self) -> np.ndarray:
        """Returns the two rows: units clipped, units seen."""
        return tf.convert_to_tensor(self._totals).numpy()
