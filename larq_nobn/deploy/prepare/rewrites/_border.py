"""What the numbers around a map add to a convolution, and what of a kernel meets it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Axis(NamedTuple):
    """How a kernel moves along the height or the width of a map.

    Attributes:
        size: Of the map.
        taps: Of the kernel.
        stride, dilation: Its steps, and those between its taps.
        padding: "valid", "same" or "causal".
    """

    size: int
    taps: int
    stride: int
    dilation: int
    padding: str

    @property
    def reach(self) -> int:
        """How many positions the kernel covers."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def before(self) -> int:
        """How many positions are padded in front."""
        if self.padding == "causal":
            return self.reach - 1
        if self.padding == "valid":
            return 0
        steps = -(-self.size // self.stride)
        return max((steps - 1) * self.stride + self.reach - self.size, 0) // 2

    @property
    def steps(self) -> int:
        """How many positions the output has."""
        over = self.reach - 1 if self.padding == "valid" else 0
        return -(-(self.size - over) // self.stride)

    def inside(self) -> np.ndarray:
        """Which taps meet the map, at every position of the output, (steps, taps)."""
        starts = np.arange(self.steps) * self.stride - self.before
        met = starts[:, None] + np.arange(self.taps) * self.dilation
        return (met >= 0) & (met < self.size)

    def met(self) -> slice:
        """The taps that meet the map anywhere, if the rest can go."""
        used = np.flatnonzero(self.inside().any(axis=0))
        if not len(used):  # such as the two taps around a map of one
            return slice(0, self.taps)
        first, last = int(used[0]), int(used[-1]) + 1
        less = self._replace(taps=last - first)
        same = self.before - first * self.dilation == less.before
        return slice(first, last) if same else slice(0, self.taps)


def border_sums(kernel: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """What padding with ones adds, at every position of the output.

    Arguments:
        kernel: (height, width, input channels, output channels), times what pads each
            input channel where that is not 1.
        rows, columns: How it moves.

    Returns:
        (rows, columns, output channels), in float64.
    """
    taps = kernel.astype(np.float64).sum(axis=2)
    inside = rows.inside()[:, None, :, None] & columns.inside()[None, :, None, :]
    return np.einsum("xyij,ijo->xyo", ~inside, taps)
