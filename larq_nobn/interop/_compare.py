"""Compares the layers of an import with PyTorch's operations on its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import Call, calls
from ._half_turn import HalfTurn
from ._shapes import State

# Both compute in float32; weights beside their filter's mean are moved by 1e-6.
_TOLERANCE = 1e-4

# The modules of a shortcut, and those of halves, such as bn2_1.
_BESIDE = re.compile(r"down|\d_\d")
_REMEDY = (
    "Give a checkpoint of the published code; verify=False opens this one all the same."
)

Tensors = dict[str, Any]


def compare_layers(
    model: keras.Model, variables: Mapping[str, Any], state: State
) -> None:
    """Checks that layers compute what PyTorch does with the tensors set in them.

    On a generated map, each layer by itself: kernels as real-valued ones, signs with
    the bias before them, batch norm, activations and the dense layer. And layers of a
    kind must be in the order of the names of their tensors.

    Arguments:
        model: The import, filled.
        variables: Where each tensor went.
        state: The tensors.

    Raises:
        ValueError: It names the layer and its tensors.
    """
    owners = {id(w): layer.name for layer in model.layers for w in layer.weights}
    tensors: dict[str, Tensors] = {}
    for name, variable in variables.items():
        tensors.setdefault(owners[id(variable)], {})[name] = state[name]
    turned = any(isinstance(layer, HalfTurn) for layer in model.layers)
    blocks = any("." in _source(name) for name in variables)
    last: dict[str, tuple[tuple[Any, ...], str]] = {}
    for call in calls(model):
        if call.name not in tensors:
            continue
        own = tensors[call.name]
        what = f"Layer {call.name!r}, set from {', '.join(sorted(own))},"
        for kind, places in _places(own, blocks).items():
            before, name = last.get(kind, ((), ""))
            if min(places) < before:
                raise ValueError(
                    f"{what} follows layer {name!r}, whose tensors have later names. "
                    f"{_REMEDY}"
                )
            last[kind] = max(places), call.name
        for mine, theirs in _pairs(call, own, turned):
            away = np.abs(mine - theirs).max()
            if not away <= _TOLERANCE * np.abs(theirs).max():
                raise ValueError(
                    f"{what} computes something else than PyTorch does with them, by "
                    f"{away:.3g}. {_REMEDY}"
                )


def _source(name: str) -> str:
    """The PyTorch module of a tensor."""
    return name.rpartition(".")[0]


def _places(own: Tensors, blocks: bool) -> dict[str, list[tuple[Any, ...]]]:
    """Where the names of a layer's tensors put it, among the layers of each kind.

    Of a network of blocks, only those of blocks have an order. Shortcuts, and halves
    beside each other, have none.
    """
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name in own:
        source = _source(name)
        if _BESIDE.search(source) or (blocks and "." not in source):
            continue
        parts = re.split(r"(\d+)", source)
        place = tuple(int(x) if x.isdigit() else x for x in parts)
        kind = re.match("[a-z]*", name.split(".")[-2])
        found.setdefault(str(kind and kind[0]), []).append(place)
    return found


def _pairs(
    call: Call, own: Tensors, turned: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What a layer computes of generated maps, and what PyTorch makes of them."""
    import torch
    from torch.nn import functional

    layer, random = call.layer, np.random.default_rng(0)
    given = {name: torch.from_numpy(np.array(own[name])) for name in sorted(own)}

    def ending(*ends: str) -> list[Any]:
        return [value for name, value in given.items() if name.endswith(ends)]

    def pair(
        channels: int,
        size: tuple[int, int],
        ours: Callable[[Any], Any],
        theirs: Callable[[Any], Any],
    ) -> tuple[np.ndarray, np.ndarray]:
        x = random.normal(size=(2, channels, *size)).astype(np.float32)
        step = -1 if turned else 1
        mine = np.asarray(ours(x.transpose(0, 2, 3, 1)[:, ::step, ::step]))
        if mine.ndim == 4:
            mine = mine[:, ::step, ::step].transpose(0, 3, 1, 2)
        return mine, theirs(torch.from_numpy(x)).numpy()

    biases = [b for b in ending(".bias") if b.ndim == 4]
    if isinstance(layer, keras.layers.BatchNormalization):
        bias, mean, var, weight = given.values()
        rank, norm = call.first_input.shape.rank, functional.batch_norm

        def normalized(x: np.ndarray) -> np.ndarray:
            rows = x if rank == 4 else x.reshape(-1, x.shape[-1])
            return np.reshape(layer(rows, training=False), x.shape)

        return [
            pair(len(weight), (2, 3), normalized,
                 lambda x: norm(x, mean, var, weight, bias, eps=layer.epsilon))
        ]  # fmt: skip
    if isinstance(layer, keras.layers.Dense):
        before = call.first_input._keras_history.layer
        flat = isinstance(before, keras.layers.Flatten)
        *size, channels = (
            before.input_shape[1:] if flat else (1, 1, layer.kernel.shape[0])
        )
        bias, weight = given.values()
        return [
            pair(channels, tuple(size), lambda x: layer(x.reshape(2, -1)),
                 lambda x: functional.linear(x.reshape(2, -1), weight, bias))
        ]  # fmt: skip
    slopes = [2 ** torch.round(a) for a in ending(".L_alpha")]
    slopes += [w for w in ending(".weight") if w.ndim == 1]
    if slopes:
        first, second = biases or (0, 0)
        slope = slopes[0]
        return [
            pair(len(slope), (2, 3), layer,
                 lambda x: functional.prelu(x + first, slope) + second)
        ]  # fmt: skip
    rows = []
    if biases:
        bias, sign = biases[0], getattr(layer, "input_quantizer", layer)
        rows.append(
            pair(bias.shape[1], (2, 3), lambda x: np.sign(sign(x)),
                 lambda x: torch.sign(x * sign.scale + bias))
        )  # fmt: skip
    if weights := ending(".weight"):
        weight, kernel = weights[0], layer.kernel.numpy()
        size = tuple(n + 1 for n in weight.shape[2:])
        rows.append(
            pair(weight.shape[1], size,
                 lambda x: tf.nn.conv2d(x, kernel, 1, "VALID"),
                 lambda x: functional.conv2d(x, weight))
        )  # fmt: skip
    return rows
