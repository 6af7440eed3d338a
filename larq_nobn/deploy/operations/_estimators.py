r"""Straight-through estimators that are written as a sum, whose terms cancel.

\[ x + \operatorname{stop\_gradient}(q(x) - x) = q(x) \]

The sum equals q(x), and its gradient is that of x. Instead of x, c = clip(x), tanh(x)
and others are common. The terms come in any order and with any factors.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ._kinds import Affine, Node, Sum, Value
from ._program import Program

# The largest number of operations that a sum is made of.
_MOST = 12


def cancel_terms(program: Program) -> tuple[Program, list[str]]:
    """Removes from each sum the terms that cancel; returns the names of these sums."""
    names = []
    for node in program.nodes:
        if isinstance(node, Affine) or _parts(node) is None:
            continue
        edited = _without_terms(program, node) if node in program.nodes else None
        if edited is not None:
            program = edited
            names.append(node.name)
    return program, names


def _without_terms(program: Program, node: Node) -> Program | None:
    """Expands a sum, its last operation first, until some of its terms cancel.

    A value that several operations read is expanded after all of these, so that its
    factors are added up first.
    """
    places = {other: place for place, other in enumerate(program.nodes)}
    terms, shift = {node.y: np.ones(1)}, np.zeros(1)
    for _ in range(_MOST):
        makers = (program.maker(value) for value in terms)
        known = [m for m in makers if m is not None and _parts(m) is not None]
        if not known:
            return None
        last = max(known, key=places.__getitem__)
        k, (factors, b) = terms.pop(last.y), _parts(last) or ((), 0.0)
        shift = shift + k * b
        for value, factor in zip(last.reads, factors, strict=True):
            terms[value] = terms.get(value, 0.0) + k * factor
        left = {value: k for value, k in terms.items() if np.any(k)}
        if len(left) < len(terms):
            return _summed(program, node, left, shift) if left else None
    return None


def _parts(node: Node) -> tuple[tuple[np.ndarray, ...], np.ndarray] | None:
    """Returns the factors of a node's summands, and its shift; None for other nodes."""
    if isinstance(node, Affine):
        return (node.k,), node.b
    one, none = np.ones(1), np.zeros(1)
    if isinstance(node, Sum):
        return (one, one), none
    alike = all(x.shape == node.y.shape for x in node.reads)
    if node.y.dtype != tf.float32 or not alike or node.y.channels is None:
        return None
    if node.type == "Sub":
        return (one, -one), none
    return ((one,) * len(node.reads), none) if node.type == "AddN" else None


def _summed(
    program: Program, node: Node, terms: dict[Value, np.ndarray], shift: np.ndarray
) -> Program:
    """Writes a sum as k_1 x_1 + k_2 x_2 + … + shift, of affine operations and sums."""
    made, parts = list[Node](), list[Value]()
    for place, (value, k) in enumerate(terms.items()):
        b = 0.0 if place else shift
        made.append(Affine(f"{node.name}_{place}", (value,), (value.like(),), k, b))
        parts.append(made[-1].y)
    total = parts[0]
    for part in parts[1:]:
        made.append(Sum(node.name, (total, part), (total.like(),)))
        total = made[-1].y
    made[-1] = made[-1].making(node.y)
    return program.with_nodes([node], made)
