"""Mean and variance that the features of a network without batch norm should have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..._keras import keras
from ...graph import _graph, _kinds
from ...layers._channel_padding import ChannelPadding


class ExpectedMoments(NamedTuple):
    """Expected moments of the channels of a map, for gains of 1 and biases of 0.

    Arguments:
        mean, variance: (C,) each.
        given: Whether the map is still that of the given model, so that statistics
            which were taken there hold.
    """

    mean: np.ndarray
    variance: np.ndarray
    given: bool = False

    @property
    def rate(self) -> float:
        """One over the expected standard deviation, of all channels together."""
        return float(np.mean(self.variance)) ** -0.5 if self.variance.any() else 1.0

    def times(self, factor: float) -> ExpectedMoments:
        return ExpectedMoments(
            factor * self.mean, factor**2 * self.variance, self.given
        )


def unit(channels: int, given: bool = False) -> ExpectedMoments:
    """Returns the moments after a standardized kernel of independent inputs."""
    return ExpectedMoments(np.zeros(channels), np.ones(channels), given)


def channels_of(tensor: Any) -> int:
    """Returns the size of the last axis, or 1 where there is none."""
    return int(tensor.shape[-1] or 1) if tensor.shape.rank else 1


def total(terms: Sequence[ExpectedMoments]) -> ExpectedMoments:
    """Returns the moments of the sum of independent maps."""
    return ExpectedMoments(
        sum(term.mean for term in terms),  # type: ignore[arg-type]
        sum(term.variance for term in terms),  # type: ignore[arg-type]
        all(term.given for term in terms),
    )


# As good as infinite.
_FAR = 1e9


def clipped(x: ExpectedMoments, low: float, high: float) -> ExpectedMoments:
    """Returns the moments of normal values clipped to bounds, as by a ReLU."""
    low, high = max(low, -_FAR), min(high, _FAR)
    deviation = np.sqrt(np.maximum(x.variance, 1e-12))
    ends = [(bound - x.mean) / deviation for bound in (low, high)]
    density = [np.exp(-(end**2) / 2) / math.sqrt(2 * math.pi) for end in ends]
    below, above = (
        np.array([0.5 * math.erfc(side * z / math.sqrt(2)) for z in end])
        for side, end in zip((-1, 1), ends, strict=True)
    )
    inside = 1 - below - above
    square = x.mean**2 + x.variance
    first = deviation * (density[0] - density[1])
    second = deviation * ((x.mean + low) * density[0] - (x.mean + high) * density[1])
    mean = low * below + high * above + x.mean * inside + first
    power = low**2 * below + high**2 * above + square * inside + second
    return ExpectedMoments(mean, np.maximum(power - mean**2, 0.0), x.given)


def is_sum(call: _graph.Call) -> bool:
    """Whether a call adds feature maps."""
    weights = _kinds.weights_of_sum(call)
    return weights is not None and bool(np.all(weights == 1))


def activated(layer: keras.layers.Layer, x: ExpectedMoments) -> ExpectedMoments:
    """Returns the moments after a layer's activation; leaky ones count as identity."""
    bounds = _kinds.activation_traits(layer).bounds
    return x if bounds is None else clipped(x, *bounds)


def through(
    call: _graph.Call, inputs: Sequence[ExpectedMoments], channels: int
) -> ExpectedMoments:
    """Returns the moments after a layer without kernel; unknown layers keep them."""
    given = all(x.given for x in inputs)
    if len(inputs) > 1 and sum(len(x.mean) for x in inputs) == channels:
        means, variances, _ = zip(*inputs, strict=True)
        return ExpectedMoments(np.concatenate(means), np.concatenate(variances), given)
    x = next((x for x in inputs if len(x.mean) == channels), inputs[0])
    x = x._replace(given=given)
    layer = call.layer
    if isinstance(layer, ChannelPadding) and len(x.mean) < channels:
        sides = layer.before, layer.after
        return ExpectedMoments(np.pad(x.mean, sides), np.pad(x.variance, sides), given)
    return activated(layer, resized(x, channels))


def resized(x: ExpectedMoments, channels: int) -> ExpectedMoments:
    """Returns the moments for other channels: repeated, or the mean for all."""
    if len(x.mean) == channels:
        return x
    if channels % len(x.mean) == 0:  # flattened: the channels of every position
        repeat = channels // len(x.mean)
        return ExpectedMoments(
            np.tile(x.mean, repeat), np.tile(x.variance, repeat), x.given
        )
    mean, variance = (np.full(channels, a.mean()) for a in (x.mean, x.variance))
    return ExpectedMoments(mean, variance, x.given)
