"""What takes the place of a batch norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..._keras import keras
from ...graph import Call, Graph
from ...layers import ChannelAffine, IndependentComponent
from ._moments import Moments
from ._plan import NormPlan, SignPlan
from ._signs import flippable

# In deviations of its input: further out a sign is as good as constant, and no gradient
# would ever reach its shift.
_FURTHEST = 3.0


class Shifted(NamedTuple):
    """A sign behind a batch norm, and the kernels that can turn its signs around."""

    call: Call
    kernels: tuple[str, ...]


def factors(norm: keras.layers.Layer, channels: int) -> tuple[np.ndarray, Any]:
    """The learned gain of a batch norm and its bias, (C,) each, or None for no bias."""
    gamma, beta = (
        None if weight is None else weight.numpy().astype(np.float64).reshape(-1)
        for weight in (norm.gamma, norm.beta)
    )
    return (np.ones(channels) if gamma is None else gamma), beta


def signs_behind(
    graph: Graph, norm: Call, signs: Mapping[str, SignPlan], gamma: np.ndarray
) -> list[Shifted] | None:
    """The signs whose shifts can do what a batch norm does, if nothing else reads it.

    Negative factors turn signs around, and so need kernels that turn them back.
    """
    readers = graph.consumers(norm.first_output)
    if graph.is_output(norm.first_output) or not readers:
        return None
    found = []
    for use in (norm, *readers):
        if len(graph.uses(use.name)) > 1:
            return None
    for reader in readers:
        kernels = flippable(graph, reader) if np.any(gamma < 0) else []
        if reader.name not in signs or kernels is None:
            return None
        found.append(Shifted(reader, tuple(kernels)))
    return found


def sign_shift(
    sign: SignPlan, gamma: np.ndarray, beta: np.ndarray | None, x: Moments
) -> np.ndarray:
    """What a sign of x needs as its shift to be that of the normalized x, (C,).

    With the sign's own a and b, a·(γ·(x - m)/√v + β) + b has, up to the sign of γ, the
    sign of x - m + √v·(β + b/a)/γ.
    """
    own = 0.0 if sign.shift is None else sign.shift / sign.scale
    offset = own + (np.zeros_like(gamma) if beta is None else beta)
    tiny = np.where(gamma < 0, -1e-12, 1e-12)
    relative = offset / np.where(np.abs(gamma) < 1e-12, tiny, gamma)
    relative = np.clip(relative, -_FURTHEST, _FURTHEST)
    return sign.scale * x.rate * (np.sqrt(x.variance) * relative - x.mean)


def affine_plan(
    norm: keras.layers.Layer,
    gamma: np.ndarray,
    beta: np.ndarray | None,
    x: Moments,
    reason: str,
) -> NormPlan:
    """Gain and bias without statistics of a batch, or nothing where there are none.

    Where the input is still that of the given model, its moving statistics join them;
    behind rewritten kernels the expected moments do.
    """
    mean, variance = x.mean, x.variance
    if x.given:
        mean, variance = (
            weight.numpy().astype(np.float64).reshape(-1)
            for weight in (norm.moving_mean, norm.moving_variance)
        )
    beta = np.zeros_like(gamma) if beta is None else beta
    # The scale of what is rewritten is accounted for in the next kernel or sign.
    scaled = x.given and np.any(variance != 1)
    if np.all(gamma == 1) and not np.any(beta) and not np.any(mean) and not scaled:
        return NormPlan("identity")
    gain = gamma / np.sqrt(variance + norm.epsilon)
    return NormPlan("affine", gain=gain, bias=beta - mean * gain, reason=reason)


def norm_layers(call: Call, plan: NormPlan) -> list[keras.layers.Layer]:
    """The layers in place of a batch norm: an affine one, dropout, both or neither."""
    layer, dtype = call.layer, call.layer.dtype_policy.name
    found = []
    if plan.kind == "affine":
        affine = ChannelAffine(name=call.name, dtype=dtype, trainable=layer.trainable)
        found.append(affine)
    if isinstance(layer, IndependentComponent) and layer.rate > 0:
        name = f"{call.name}_dropout" if found else call.name
        found.append(keras.layers.Dropout(layer.rate, name=name, dtype=dtype))
    return found
