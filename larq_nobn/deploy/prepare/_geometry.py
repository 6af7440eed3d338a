"""Where the kernel of a binary layer moves, once the layer is a 2D convolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..._larq import lq
from ...graph import _graph, _linear
from .._errors import UnreadableError
from ..lite._lce_faults import missed_reach


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
        """Returns the taps that meet the map anywhere, if the rest can go."""
        used = np.flatnonzero(self.inside().any(axis=0))
        if not len(used):  # such as the two taps around a map of one
            return slice(0, self.taps)
        first, last = int(used[0]), int(used[-1]) + 1
        less = self._replace(taps=last - first)
        same = self.before - first * self.dilation == less.before
        return slice(first, last) if same else slice(0, self.taps)


def border_sums(kernel: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Returns the sums that padding with ones adds, at every position of the output.

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


class Geometry(NamedTuple):
    """A binary layer as a 2D convolution of whole maps.

    Attributes:
        rows, columns: How the kernel moves along the two axes.
        channels: Of the input.
        border: What pads the map, after the sign.
        reshaped: Whether the layer's own maps have other shapes.
    """

    rows: Axis
    columns: Axis
    channels: int
    border: float
    reshaped: bool

    @property
    def map_shape(self) -> tuple[int, int, int]:
        return (self.rows.size, self.columns.size, self.channels)

    @property
    def kernel_size(self) -> tuple[int, int]:
        return (self.rows.taps, self.columns.taps)

    @property
    def causal(self) -> bool:
        return self.columns.padding == "causal"

    @property
    def padded(self) -> bool:
        """Whether the kernel ever meets what pads the map."""
        return not (self.rows.inside().all() and self.columns.inside().all())

    @property
    def too_small(self) -> bool:
        """Whether LCE computes it wrongly, if zeros pad it."""
        axes = self.rows, self.columns
        sizes, dilations = [a.size for a in axes], [a.dilation for a in axes]
        return missed_reach(sizes, self.kernel_size, dilations) is not None


def geometry(call: _graph.Call) -> Geometry:
    """Reads a binary layer of one of the kinds that are 2D convolutions."""
    layer = call.layer
    shape: tuple[int, ...] = tuple(call.first_input.shape[1:])
    if isinstance(layer, lq.layers.QuantDense):
        # Each position is one of its own, on a map of any height and width.
        sizes = [1, 1, *shape[:-1]]
        height, width = int(np.prod(sizes[:-1])), sizes[-1]
        rows, columns = (Axis(size, 1, 1, 1, "valid") for size in (height, width))
        return Geometry(rows, columns, shape[-1], 0.0, reshaped=len(shape) != 3)
    if len(shape) != len(layer.kernel_size) + 1:
        raise UnreadableError(
            f"Layer {call.label!r} moves its kernel over several maps at a time, of an "
            f"input of shape {('batch', *shape)}. Reshape them into one."
        )
    steps = zip(layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    axes = [
        Axis(size, *step, layer.padding)
        for size, step in zip(shape[:-1], steps, strict=True)
    ]
    rows, columns = [Axis(1, 1, 1, 1, "valid"), *axes][-2:]
    border = _linear.border_of(call.operation) or 0.0
    return Geometry(rows, columns, shape[-1], border, reshaped=len(axes) == 1)


class Padding(NamedTuple):
    """How a map is padded in LCE.

    Attributes:
        place: Where the kernel moves, without what of it meets nothing but zeros.
        value: What pads the map, after the sign.
        wanted: What would have to, for the result to be that of the model.
        differs: Whether that is another number, and met.
    """

    place: Geometry
    value: float
    wanted: float
    differs: bool


def padded_as(place: Geometry, factor: float, mean: float) -> Padding:
    """Returns how a map of t = ±1 is padded, where the model has factor * t + mean."""
    wanted = (place.border - mean) / factor
    if wanted == 0 and place.padded and not place.causal:
        rows, columns = (
            axis._replace(taps=axis.met().stop - axis.met().start)
            for axis in (place.rows, place.columns)
        )
        place = place._replace(rows=rows, columns=columns)
    zeros = wanted == 0 and not place.too_small and not place.causal
    value = 0.0 if zeros else 1.0
    return Padding(place, value, wanted, place.padded and value != wanted)
