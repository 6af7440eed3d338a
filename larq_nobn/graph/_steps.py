"""Feature maps whose values are whole multiples of a step, as sums of signs are.

On such a map a pre-activation is often exactly 0, and not by chance of rounding. There
a threshold belongs between two values, where no rounding can turn a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import lcm, prod
from typing import Any, NamedTuple

import numpy as np

from .._keras import keras
from . import _kinds
from ._graph import Call, Graph
from ._linear import border_value
from ._operation import is_function
from ._signs import kind_of, quantized, sign_of

_layers = keras.layers
# Of more, float32 does not tell half a step apart.
_MOST = 2.0**20
# How much of a step rounding may take a threshold to reach a value that is not it.
_NEAR = 0.125


class Steps(NamedTuple):
    """The values of a map, per channel: step times whole numbers.

    Attributes:
        step: Positive; (C,).
        most: The largest magnitude of the whole numbers.
    """

    step: np.ndarray
    most: float

    def times(self, gain: Any) -> Steps | None:
        """The steps of the map times a gain per channel, none of them 0."""
        step = self.step * np.abs(np.asarray(gain, np.float64))
        return Steps(step, self.most) if np.all(step > 0) else None

    def plus(self, offset: Any) -> Steps | None:
        """The steps of the map plus whole numbers of them, but for rounding."""
        offset = np.asarray(offset, np.float64)
        count, whole = np.abs(offset) / self.step, np.all(self.reach(offset))
        return self.bounded(self.most + count.max(initial=0.0)) if whole else None

    def bounded(self, most: float) -> Steps | None:
        return self._replace(most=most) if most <= _MOST else None

    def between(
        self, threshold: np.ndarray, above: np.ndarray, dtype: Any = np.float32
    ) -> np.ndarray:
        """Moves thresholds that are a value, or close to one, to halfway between two.

        Arguments:
            threshold: (C,). From it on a sign is +1.
            above: Where it is so only beyond it.
            dtype: The type of the numbers that it was worked out of.
        """
        count = threshold / self.step
        nearest = np.round(count)
        reached = np.where(self.reach(threshold, dtype), ~above, count <= nearest)
        middle = (nearest + np.where(reached, -0.5, 0.5)) * self.step
        near = (np.abs(count - nearest) < _NEAR) & (np.abs(count) <= _MOST)
        return np.where(near, middle, threshold)

    def reach(self, threshold: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Which thresholds are a value, but for rounding of their type."""
        count = threshold / self.step
        nearest = np.round(count)
        return np.abs(count - nearest) <= 4 * np.finfo(dtype).eps * np.abs(nearest)


def sign_steps(channels: int) -> Steps:
    """The steps of -1 and +1."""
    return Steps(np.ones(channels), 1.0)


# What a call makes of maps of known steps, None for others; None if it is not known.
Rule = Callable[[Call, Sequence[Steps | None]], Steps | None]


def steps_of(graph: Graph, rule: Rule) -> dict[int, Steps]:
    """The steps of all tensors that have some, by the tensors' ids.

    Arguments:
        graph: A model.
        rule: `steps_after_layer`, or one that knows more kinds of layers.
    """
    found: dict[int, Steps] = {}
    for call in graph.calls:
        made = rule(call, [found.get(id(tensor)) for tensor in call.reads])
        if made is not None and len(made.step) == call.first_output.shape[-1]:
            found[id(call.first_output)] = made
    return found


def steps_after_layer(call: Call, taken: Sequence[Steps | None]) -> Steps | None:
    """What a call makes of maps of known steps; None if that is not known."""
    layer = call.layer
    if kind_of(sign_of(layer)) in _kinds.SIGNS:
        return sign_steps(call.first_output.shape[-1])
    if _kinds.kernels_of(layer) is not None:
        return _after_kernels(call, taken[0])
    if not taken or any(steps is None for steps in taken):
        return None
    known = [steps for steps in taken if steps is not None]
    if len(known) > 1:
        return _joined(call, known)
    if not _kinds.is_channels_last(layer):
        return None
    if _kinds.traits(type(layer)).pool in ("mean", "whole mean"):
        return _averaged(call, known[0])
    return _kept(call, known[0]) if _kinds.inherited(type(layer)).keeps else None


def steps_after_kernel(
    kernel: np.ndarray, taken: Steps | None, border: float = 0.0
) -> Steps | None:
    """The steps of sums of a map times a kernel.

    Arguments:
        kernel: (terms of a sum, C).
        taken: The steps of the map, of which all channels must be alike.
        border: What else the kernel meets.
    """
    if taken is None or np.any(taken.step != taken.step[0]):
        return None
    magnitude = np.abs(kernel.astype(np.float64))
    least = np.where(magnitude > 0, magnitude, np.inf).min(axis=0)
    if not np.all(np.isfinite(least)):
        return None
    whole, padding = np.round(magnitude / least), abs(border) / taken.step[0]
    if np.any(np.abs(whole * least - magnitude) > 1e-6 * least) or padding % 1:
        return None
    most = max(taken.most, padding) * whole.sum(axis=0).max()
    return Steps(taken.step[0] * least, taken.most).bounded(most)


def steps_after_activation(activation: Any, taken: Steps | None) -> Steps | None:
    """What an activation makes of a map of known steps."""
    if type(activation) in _kinds.SIGNS and taken is not None:
        return sign_steps(len(taken.step))
    known = (None, keras.activations.linear, keras.activations.relu)
    return taken if activation in known else None


def finest_at_signs(
    graph: Graph, tensor: Any, steps: Steps, is_plain: Callable[[Call], bool]
) -> Steps | None:
    """The finest steps of what signs read of a map; None if anything else reads it.

    What lies between two values of these lies between two of the others.

    Arguments:
        graph: A model.
        tensor: The map.
        steps: Those that it has without its gain and offset.
        is_plain: Whether a call is, or starts with, a sign whose threshold is 0.
    """
    found = []
    for call in graph.consumers(tensor):
        if len(graph.uses(call.name)) > 1:
            return None
        there: Steps | None = None
        known = _kinds.commutation(call)
        if is_plain(call):
            there = steps
        elif _kinds.joins_channels(call):
            there = finest_at_signs(graph, call.first_output, steps, is_plain)
        elif known.gain and known.shift:
            after = steps_after_layer(call, [steps])
            if after is not None:
                there = finest_at_signs(graph, call.first_output, after, is_plain)
        if there is None:
            return None
        found.append(there._replace(step=there.step[: len(steps.step)]))
    if graph.is_output(tensor) or not found:
        return None
    return min(found, key=lambda steps: steps.step[0])


def meets_jump(
    graph: Graph, edge: Any, jumps: Callable[[Call], bool] | None = None
) -> bool:
    """Whether a function that may jump at 0 reads a map, or what functions make of it.

    What is in a Lambda, in a user's layer or in a user's activation is not known.

    Arguments:
        graph: A model.
        edge: The map.
        jumps: Tells of other calls whether they jump, too.
    """
    edges, seen = [edge], set[int]()
    while edges:
        for call in graph.consumers(edges.pop()):
            function = _function_of(call)
            if function in ("", *_kinds.JUMPS) or (jumps is not None and jumps(call)):
                return True
            passes = (
                function or _kinds.joins_channels(call) or _kinds.commutation(call).gain
            )
            if passes and id(call.first_output) not in seen:
                seen.add(id(call.first_output))
                edges.append(call.first_output)
    return False


def _function_of(call: Call) -> str | None:
    """The function that a call is; "" for one that is not known, None for a layer."""
    layer = call.layer
    if is_function(layer):
        return _kinds.symbol_of(layer).split(".")[-1]
    if type(layer) is _layers.Activation and sign_of(layer) is None:
        return "known" if _kinds.function_traits(layer.activation).elementwise else ""
    home = type(layer).__module__.split(".")[0]
    return None if home in ("tf_keras", "keras", "larq", "larq_nobn") else ""


def _after_kernels(call: Call, taken: Steps | None) -> Steps | None:
    layer, kernels = call.layer, _kinds.kernels_of(call.layer)
    assert kernels is not None
    quantizer = getattr(layer, "input_quantizer", None)
    if quantizer is not None:
        known = type(quantizer) in _kinds.SIGNS
        taken = sign_steps(call.first_input.shape[-1]) if known else None
    if taken is None or not _kinds.is_channels_last(layer):
        return None
    border = border_value(layer.name, getattr(layer, "pad_values", 0.0))
    for name in dict.fromkeys((kernels.first, kernels.last)):
        kernel = quantized(call.operation, name)
        if kernels is _kinds.TRANSPOSED:
            kernel = np.swapaxes(kernel, -1, -2)
        if kernels is _kinds.DEPTHWISE or (
            kernels is _kinds.SEPARABLE and name == kernels.first
        ):
            kernel = kernel.reshape(*kernel.shape[:-2], -1)
        taken = steps_after_kernel(kernel.reshape(-1, kernel.shape[-1]), taken, border)
        border = 0.0
    if taken is not None and call.operation.argument("use_bias"):
        taken = taken.plus(call.operation.arrays["bias"])
    return steps_after_activation(layer.activation, taken)


def _kept(call: Call, taken: Steps) -> Steps | None:
    layer = call.layer
    if type(layer) is _layers.Activation:
        return steps_after_activation(layer.activation, taken)
    if type(layer) is _layers.ReLU:
        bound = 0.0 if layer.max_value is None else layer.max_value
        simple = not (layer.negative_slope or layer.threshold)
        return taken if simple and taken.plus(bound) is not None else None
    if getattr(layer, "interpolation", "nearest") != "nearest":
        return None
    before, after = len(taken.step), call.first_output.shape[-1]
    if after is None or after % before:
        return None
    return taken._replace(step=np.tile(taken.step, after // before))


def _averaged(call: Call, taken: Steps) -> Steps | None:
    layer = call.layer
    if _kinds.traits(type(layer)).pool == "whole mean":
        sizes = call.first_input.shape[1:-1]
        if None in sizes:
            return None
        count = prod(sizes)
    elif layer.padding == "valid":
        count = prod(layer.pool_size)
    else:  # at a border fewer are averaged
        count = prod(lcm(*range(1, size + 1)) for size in layer.pool_size)
    return taken._replace(step=taken.step / count).bounded(taken.most * count)


def _joined(call: Call, taken: Sequence[Steps]) -> Steps | None:
    layer = call.layer
    if type(layer) is _layers.Concatenate:
        if not _kinds.joins_channels(call):
            return None
        step = np.concatenate([steps.step for steps in taken])
        return Steps(step, max(steps.most for steps in taken))
    weights = _kinds.weights_of_sum(call)
    if type(layer) in (_layers.Maximum, _layers.Minimum):
        weights = np.ones(len(taken))
    if weights is None or len({len(steps.step) for steps in taken}) > 1:
        return None
    rows = np.stack([s.step * abs(w) for s, w in zip(taken, weights, strict=True)])
    step = rows.min(axis=0)
    counts = np.round(rows / step)
    if np.any(np.abs(counts * step - rows) > 1e-6 * step):
        return None
    most = sum(
        (steps.most * count for steps, count in zip(taken, counts, strict=True)),
        start=np.zeros(len(step)),
    )
    return Steps(step, 0.0).bounded(float(most.max()))
