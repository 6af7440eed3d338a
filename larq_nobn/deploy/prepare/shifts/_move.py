"""Moves per-channel shifts along the graph, to where they cost no addition."""

from __future__ import annotations

import numpy as np

from ...._keras import keras
from ....graph import Call, Graph
from .._inference import BinaryConvolution, PlainAffine
from ._forms import Shift, Unknowns
from ._rules import Fit, Want, fixed, rule_of, zeros


def move_shifts(model: keras.Model) -> keras.Model:
    """Rewrites shifts and biases of a prepared model so that few additions remain.

    Every tensor x may be kept as x - s, s one number per channel. Convolutions make any
    s for nothing, by their bias or, where they are binary and end in a ReLU, by the
    offset right behind; dense layers take any; pools and sums hand it on; signs and
    rectifiers with shifts have one s each that leaves nothing to add. What needs no
    addition now stays so. The other wishes are then granted in the order of the
    network, where those before leave s open, so additions only ever become fewer.

    In a residual block sign - convolution - sum - RPReLU, the convolution's bias makes
    the sum ready for the rectifier, and the rectifier's last shift travels on until a
    sign adds it to its own: of four additions of constants one remains.

    Arguments:
        model: A prepared model; its layers get other weights, and it is returned.
    """
    graph, unknowns = Graph(model), Unknowns()
    shifts: dict[int, Shift] = {}
    wants: list[Want] = []
    fits: list[tuple[Fit, Shift, Shift]] = []
    for call in graph.calls:
        taken = [shifts.get(id(x)) or zeros(x) for x in call.node.keras_inputs]
        rule = rule_of(call, taken, unknowns)
        if rule.adapt is not None and len(graph.uses(call.name)) > 1:
            rule = fixed(call, taken)  # whose weights could not fit each use
        if rule.adapt is not None and _is_merged(call, graph):
            rule = rule._replace(wants=())
        if rule.adapt is not None:
            fits.append((rule.adapt, taken[0], rule.given))
        wants.extend(rule.wants)
        shifts[id(call.outputs)] = rule.given
        if graph.is_output(call.outputs):
            wants.append(Want(rule.given, np.zeros(())))
    for want in sorted(wants, key=lambda want: bool(np.any(want.value))):
        unknowns.settle(want.shift, want.value)
    for adapt, before, behind in fits:
        adapt(unknowns.value(before), unknowns.value(behind))
    return model


def _is_merged(call: Call, graph: Graph) -> bool:
    """Whether the converter makes any offset of an affine layer a convolution's."""
    source = graph.producer(call.first_input)
    if source is None or type(call.layer) is not PlainAffine:
        return False
    alone = graph.sole_consumer(call.first_input) is call
    binary = type(source.layer) is BinaryConvolution
    return alone and binary and source.layer.merges_behind()
