"""Positive factors on whole maps, absorbed by the layers around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import (
    Call,
    Graph,
    Operation,
    commutation,
    constants_of,
    sign_of,
    symbol_of,
)
from ...layers import ThresholdedLinearUnit
from ...layers._inference import BinaryConvolution, PlainRPReLU
from ...rewrites import affine_of, is_affine, rescaled
from ._reading import has_real_kernel, sign_in, with_sign

_layers = keras.layers

# Far inside float32, so that no threshold divided by a factor leaves it.
LARGEST = 2.0**40
_RECTIFIERS = (keras.activations.linear, keras.activations.relu)

# What makes y / g of x / f, where an operation makes y of x.
Adapt = Callable[[Call, float, float], Operation]


class Rule(NamedTuple):
    """Which f and g allow a call to make y / g of x / f, where it makes y of x.

    Attributes:
        takes: Whether f may be any positive number; if not, it is 1.
        gives: Whether g may be, whatever f is; if not, it is 1.
        passes: Whether g is f, that of all inputs.
        adapt: Changes the operation for f and g; None if nothing needs to.
    """

    takes: bool = False
    gives: bool = False
    passes: bool = False
    adapt: Adapt | None = None


class Factor(NamedTuple):
    """`ratio` times an unknown positive number."""

    unknown: int
    ratio: float

    def times(self, ratio: float) -> Factor:
        return Factor(self.unknown, self.ratio * ratio)


ONE = Factor(0, 1.0)


class Unknowns:
    """Positive numbers of which only ratios are known; the first is 1."""

    def __init__(self) -> None:
        # Each as a multiple of another, or of itself while nothing is known of it.
        self._links = [ONE]

    def new(self) -> Factor:
        """A number of which nothing is known."""
        self._links.append(Factor(len(self._links), 1.0))
        return self._links[-1]

    def agree(self, first: Factor, second: Factor) -> bool:
        """Makes two factors equal; False if what is known says that they are not."""
        older, newer = sorted((self._root(first), self._root(second)))
        if older.unknown == newer.unknown:
            return math.isclose(older.ratio, newer.ratio)
        self._links[newer.unknown] = older.times(1 / newer.ratio)
        return True

    def value(self, factor: Factor) -> float:
        """A number that fits: what stays unknown in the end may as well be 1."""
        return self._root(factor).ratio

    def _root(self, factor: Factor) -> Factor:
        while (link := self._links[factor.unknown]).unknown != factor.unknown:
            factor = link.times(factor.ratio)
        return factor


class Solution(NamedTuple):
    """The factor of every edge, by its id, and what every layer takes and gives."""

    edges: dict[int, float]
    layers: dict[str, tuple[float, float]]


def absorb_factors(graph: Graph) -> Graph:
    """Drops every multiplication by a positive number that other layers can hold.

    Where it stood, each edge x from there on may be kept as x / f. Convolutions and
    affine operations can turn any f of their input into any f of their output, by their
    weights; a sign forgets it; pools, sums and ReLUs hand it on. A multiplication
    is dropped if all factors then agree wherever edges meet, and are 1 at the output.
    One that stays contains the factors of those before it.
    """
    scales = {c.name: s for c in graph.calls if (s := positive_scale(c)) is not None}
    rules = {call.name: _rule_of(call, graph) for call in graph.calls}
    dropped: dict[str, float] = {}
    solution: Solution | None = None
    # Products written as such first and from the end, since those that stay let nothing
    # pass. A layer that stays does, and is best one of the smaller maps after.
    products = [name for name in scales if not rules[name].takes]
    layers = [name for name in scales if rules[name].takes]
    for name in (*reversed(products), *layers):
        tried = {**dropped, name: scales[name]}
        found = _solve(graph, rules, tried)
        if found is not None:
            dropped, solution = tried, found
    return graph if solution is None else _absorbed(graph, rules, dropped, solution)


def _absorbed(
    graph: Graph, rules: dict[str, Rule], dropped: dict[str, float], found: Solution
) -> Graph:
    for name, (taken, given) in found.layers.items():
        if (adapt := rules[name].adapt) is not None and (taken, given) != (1, 1):
            call = graph.uses(name)[0]
            graph = graph.with_operation(adapt(call, taken, given))
    gone = {call.label: call for call in graph.calls if call.name in dropped}
    kept = {id(x) for call in gone.values() for x in tf.nest.flatten(call.outputs)}
    made = [x for call in graph.calls for x in tf.nest.flatten(call.outputs)]
    factors = found.edges
    changed = [x for x in made if factors[id(x)] != 1 and id(x) not in kept]
    for label in gone:
        call = graph.call(label)
        graph = graph.with_edge(call.first_output, call.first_input)
    return graph.with_calls(dict.fromkeys(gone, ())).renewed(changed)


def _solve(
    graph: Graph, rules: dict[str, Rule], dropped: dict[str, float]
) -> Solution | None:
    """The factors of all edges and layers; None if there are none that fit."""
    unknowns = Unknowns()
    edges: dict[int, Factor] = {}
    layers: dict[str, tuple[Factor, Factor]] = {}
    pairs: list[tuple[Factor, Factor]] = []  # what has to be equal

    def give(call: Call, taken: list[Factor], rule: Rule) -> Factor:
        if call.name in dropped:
            return taken[0].times(dropped[call.name])
        if not rule.takes:
            pairs.extend((ONE, factor) for factor in taken)
        if rule.passes:
            pairs.extend((taken[0], factor) for factor in taken[1:])
            return taken[0]
        return unknowns.new() if rule.gives else ONE

    for call in graph.calls:
        rule = rules[call.name]
        taken = [edges.get(id(x), ONE) for x in call.reads]
        given = give(call, taken, rule)
        if call.name not in dropped and rule.adapt is not None:
            # The weights of a layer that is used again are the same.
            first = layers.setdefault(call.name, (taken[0], given))
            pairs.extend(zip(first, (taken[0], given), strict=True))
        for edge in tf.nest.flatten(call.outputs):
            edges[id(edge)] = given
            if graph.is_output(edge):
                pairs.append((ONE, given))
    if not all(unknowns.agree(*pair) for pair in pairs):
        return None
    found = {
        name: (unknowns.value(taken), unknowns.value(given))
        for name, (taken, given) in layers.items()
    }
    sizes = (abs(math.log2(factor)) for pair in found.values() for factor in pair)
    if max(sizes, default=0.0) > math.log2(LARGEST):
        return None
    return Solution({key: unknowns.value(x) for key, x in edges.items()}, found)


def _rule_of(call: Call, graph: Graph) -> Rule:
    """The rule for a call; of one that is not known here, f and g are 1."""
    kind = call.operation.kind
    if commutation(call).factor:
        return Rule(takes=True, passes=True)
    if kind is PlainRPReLU:
        return Rule(takes=True, passes=True, adapt=_rprelu)
    if kind is ThresholdedLinearUnit:
        return Rule(takes=True, passes=True, adapt=_threshold)
    if is_affine(call):
        return Rule(takes=True, gives=True, adapt=_affine)
    sign = sign_in(call)
    if sign is not None and sign_of(call.layer) is not None:
        return Rule(takes=True, adapt=_sign)
    if kind is BinaryConvolution:
        gives = call.operation.argument("last") in _RECTIFIERS
        if not _has_numbers(call.operation):
            # LCE fuses a ReLU with integers only; a scale would make it an operation.
            gives &= not any(_is_relu(c) for c in graph.consumers(call.first_output))
        return Rule(sign is not None, gives, adapt=_binary_convolution)
    return _real_kernel(call, sign) if has_real_kernel(call) else Rule()


def positive_scale(call: Call) -> float | None:
    """The positive number by which a call multiplies, if it does nothing else."""
    edges = [*call.reads, *tf.nest.flatten(call.outputs)]
    if is_affine(call):
        scale, bias, *_ = affine_of(call.operation)
        scales = [scale] if not np.any(bias) else []
    elif symbol_of(call.layer) == "math.multiply":
        scales = constants_of(call)
    else:
        return None
    if len(scales) != 1 or any(edge.dtype != tf.float32 for edge in edges):
        return None
    scale = np.asarray(scales[0], np.float64)
    inside = scale.ndim == 0 and 0 < scale <= LARGEST
    return float(scale) if inside else None


def _has_numbers(operation: Operation) -> bool:
    scale, offset = (operation.argument(name) for name in ("scale", "offset"))
    scaled = scale is not None and np.any(np.asarray(scale) != 1)
    return bool(scaled or np.any(0.0 if offset is None else offset))


def _real_kernel(call: Call, sign: Operation | None) -> Rule:
    layer = call.layer
    pads = getattr(layer, "padding", "valid") != "valid"
    zero_padded = not pads or not np.any(getattr(layer, "pad_values", 0.0))
    quantizer = call.operation.argument("input_quantizer")
    takes = zero_padded if quantizer is None else sign is not None
    return Rule(takes, layer.activation in _RECTIFIERS, adapt=_into_kernel)


def _is_relu(call: Call) -> bool:
    if call.operation.kind is _layers.Activation:
        return call.layer.activation is keras.activations.relu
    return call.operation.kind is _layers.ReLU


def _divided(operation: Operation, name: str, factor: float) -> dict[str, np.ndarray]:
    value = operation.argument(name)
    return {} if value is None else {name: np.asarray(value, np.float64) / factor}


def _sign(call: Call, taken: float, given: float) -> Operation:
    """With g = 1: sign(x + b) = sign(x / f + b / f), and sign(x) = sign(x / f)."""
    sign = sign_in(call)
    if sign is None or sign.argument("shift") is None:
        return call.operation
    return with_sign(call, sign.replaced(arguments=_divided(sign, "shift", taken)))


def _rprelu(call: Call, taken: float, given: float) -> Operation:
    """With g = f, since PReLU(x / f) = PReLU(x) / f."""
    operation = call.operation
    shifts = _divided(operation, "shift_in", taken)
    return operation.replaced(
        arguments={**shifts, **_divided(operation, "shift_out", given)}
    )


def _threshold(call: Call, taken: float, given: float) -> Operation:
    """With g = f, since max(x / f, τ / f) = max(x, τ) / f."""
    return call.operation.replaced({"tau": call.operation.arrays["tau"] / given})


def _affine(call: Call, taken: float, given: float) -> Operation:
    scale, bias, *_ = affine_of(call.operation)
    return rescaled(call.operation, scale * (taken / given), bias / given)


def _into_kernel(call: Call, taken: float, given: float) -> Operation:
    """The real-valued kernel takes both factors, or g alone after a sign."""
    operation = _sign(call, taken, 1.0)
    factor = (taken if sign_in(call) is None else 1.0) / given
    name = "kernel" if "kernel" in operation.arrays else "depthwise_kernel"
    values = {name: operation.arrays[name] * factor}
    if operation.argument("use_bias"):
        values["bias"] = operation.arrays["bias"] / given
    return operation.replaced(values)


def _binary_convolution(call: Call, taken: float, given: float) -> Operation:
    """The kernel stays ±1; the sign takes f, scale and offset after it take g."""
    operation = _sign(call, taken, 1.0)
    if given == 1:
        return operation
    scale = np.ones(call.first_output.shape[-1])
    scaled = {"scale": scale / given, **_divided(operation, "scale", given)}
    return operation.replaced(
        arguments={**scaled, **_divided(operation, "offset", given)}
    )
