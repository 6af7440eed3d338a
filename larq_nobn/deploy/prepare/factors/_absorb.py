"""Lets positive factors on the feature stream vanish into the layers behind them."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from ...._keras import keras
from ....graph import Call, Graph, replace_layers
from ._rules import LARGEST, Rule, positive_scale, rule_of


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


def absorb_factors(model: keras.Model) -> keras.Model:
    """Drops every multiplication by a positive number that other layers can hold.

    Where it stood, each tensor x from there on may be kept as x / f. Convolutions and
    affine layers can turn any f of their input into any f of their output, by their
    weights; a sign forgets it; pools, sums and rectifiers hand it on. A multiplication
    is dropped if all factors then agree wherever tensors meet, and are 1 at the output.
    One that stays holds the factors of those before it.

    Arguments:
        model: A prepared model; if something is dropped, its layers move into the new
            model, some of them with other weights.
    """
    graph = Graph(model)
    scales = {c.name: s for c in graph.calls if (s := positive_scale(c)) is not None}
    rules = {call.name: rule_of(call, graph) for call in graph.calls}
    dropped: dict[str, float] = {}
    factors: dict[str, tuple[float, float]] = {}
    # Products written as such first and from the end, since those that stay let nothing
    # pass. A layer that stays does, and is best one of the smaller maps behind.
    products = [name for name in scales if not rules[name].takes]
    layers = [name for name in scales if rules[name].takes]
    for name in (*reversed(products), *layers):
        tried = {**dropped, name: scales[name]}
        found = _factors(graph, rules, tried)
        if found is not None:
            dropped, factors = tried, found
    if not dropped:
        return model
    for name, (taken, given) in factors.items():
        if (adapt := rules[name].adapt) is not None:
            adapt(taken, given)
    return replace_layers(model, lambda c: None if c.name in dropped else c.layer)


def _factors(
    graph: Graph, rules: dict[str, Rule], dropped: dict[str, float]
) -> dict[str, tuple[float, float]] | None:
    """The factors that every layer takes and gives; None if there is no solution."""
    unknowns = Unknowns()
    tensors: dict[int, Factor] = {}
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
        taken = [tensors.get(id(x), ONE) for x in call.node.keras_inputs]
        given = give(call, taken, rule)
        if call.name not in dropped and rule.adapt is not None:
            # The weights of a layer that is used again are the same.
            first = layers.setdefault(call.name, (taken[0], given))
            pairs.extend(zip(first, (taken[0], given), strict=True))
        for tensor in tf.nest.flatten(call.outputs):
            tensors[id(tensor)] = given
            if graph.is_output(tensor):
                pairs.append((ONE, given))
    if not all(unknowns.agree(*pair) for pair in pairs):
        return None
    found = {
        name: (unknowns.value(taken), unknowns.value(given))
        for name, (taken, given) in layers.items()
    }
    sizes = (abs(math.log2(factor)) for pair in found.values() for factor in pair)
    return found if max(sizes, default=0.0) <= math.log2(LARGEST) else None
