"""Batch norms that follow each other, which are one gain and one bias together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import (
    Call,
    Graph,
    Steps,
    finest_at_signs,
    is_batch_norm,
    steps_behind,
)
from ...layers import ChannelAffine
from .._batch_norm import gain_and_bias
from ._plan import Affine, Plan, Scaling
from ._signs import PLAIN_SIGNS


@dataclass(frozen=True)
class Chain:
    """Layers in a row, each read by nothing but the next, in every use alike.

    Arguments:
        layers: The layers, at least one of which is a batch norm.
        starts: What the first reads, in each of its uses.
        ends: What the last makes, in each of its uses.
        scaling: What all of them amount to, in float64.
    """

    layers: tuple[keras.layers.Layer, ...]
    starts: tuple[Any, ...]
    ends: tuple[Any, ...]
    scaling: Scaling

    @property
    def name(self) -> str:
        """That of what is left of it: of the last batch norm."""
        return [x.name for x in self.layers if is_batch_norm(x)][-1]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    @property
    def dtype(self) -> str:
        """What it computes in."""
        return self.layers[-1].compute_dtype


def chains(graph: Graph) -> list[Chain]:
    """All chains of a model, each behind those that it depends on."""
    by_name = {call.name: call.layer for call in graph.calls if _is_affine(call.layer)}
    next_of = {name: _next(graph, name) for name in by_name}
    later = set(next_of.values())
    found = []
    for name in by_name:
        if name in later:
            continue
        names = [name]
        while (following := next_of[names[-1]]) is not None:
            names.append(following)
        if any(is_batch_norm(by_name[x]) for x in names):
            found.append(_chain(graph, [by_name[x] for x in names]))
    return found


def _is_affine(layer: keras.layers.Layer) -> bool:
    return is_batch_norm(layer) or isinstance(layer, ChannelAffine)


def _next(graph: Graph, name: str) -> str | None:
    uses = graph.uses(name)
    readers = [graph.sole_consumer(call.first_output) for call in uses]
    names = {None if reader is None else reader.name for reader in readers}
    if len(names) > 1 or None in names or not _is_affine(readers[0].layer):  # type: ignore[union-attr]
        return None
    following = names.pop()
    assert following is not None
    return following if len(graph.uses(following)) == len(uses) else None


def _chain(graph: Graph, layers: list[keras.layers.Layer]) -> Chain:
    gain, bias = _parameters(layers[0])
    for layer in layers[1:]:
        k, c = _parameters(layer)
        gain, bias = gain * k, bias * k + c
    starts = tuple(call.first_input for call in graph.uses(layers[0].name))
    ends = tuple(call.first_output for call in graph.uses(layers[-1].name))
    trainable = any(layer.trainable_weights for layer in layers)
    return Chain(tuple(layers), starts, ends, Scaling(gain, bias, trainable))


def _parameters(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    if is_batch_norm(layer):
        return gain_and_bias(layer)
    return layer.gamma.numpy().astype(float), layer.beta.numpy().astype(float)


def steps_behind_affine(call: Call, taken: Sequence[Steps | None]) -> Steps | None:
    """What a call makes of maps of known steps; None if that is not known."""
    if not _is_affine(call.layer):
        return steps_behind(call, taken)
    if taken[0] is None:
        return None
    gain, bias = _parameters(call.layer)
    scaled = taken[0].times(gain)
    return None if scaled is None else scaled.plus(bias)


def keep_as_affine(plan: Plan, chain: Chain, pools: Sequence[Call] = ()) -> None:
    """Plans one layer for a chain, before the pools that it now follows."""
    last = next(layer for layer in chain.layers if layer.name == chain.name)
    slots = [*(pool.name for pool in pools), chain.name]
    scaling = _with_ties(plan, chain, moved=bool(pools))
    plan.affine[slots[0]] = Affine(chain.name, scaling, last.dtype_policy.name)
    plan.moved.update(zip(slots[1:], (pool.layer for pool in pools), strict=True))
    plan.dropped |= set(chain.names) - {chain.name}


def _with_ties(plan: Plan, chain: Chain, moved: bool) -> Scaling:
    """Adds a little to biases where gain * x + bias is exactly 0 for some x.

    There a sign is +1, which rounding must not turn: neither that of a gain and a bias,
    where batch norm subtracts a mean first, nor that of a pool which follows them now.
    Signs do not notice a part of a step, anything else no more than rounding.
    """
    gain, bias = chain.scaling.gain, chain.scaling.bias
    steps = plan.steps.get(id(chain.starts[0]))
    if steps is None or len(chain.starts) > 1:
        return chain.scaling
    finest = finest_at_signs(plan.graph, chain.ends[0], steps, _is_plain)
    dtype = np.float64 if chain.dtype == "float64" else np.float32
    if finest is None:
        more = 4 * np.finfo(dtype).eps * np.abs(bias)
    else:
        steps, more = finest, np.abs(gain) * finest.step / 4
    some = (gain != 0) & (moved | (bias != 0))
    reached = some & steps.reach(-bias / np.where(some, gain, 1.0), dtype)
    return replace(chain.scaling, bias=bias + np.where(reached, more, 0.0))


def _is_plain(quantizer: Any) -> bool:
    return type(quantizer) in PLAIN_SIGNS
