"""Finds which elements an operation moves where, and loops that do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from ..._errors import InvalidValue
from ..trace._form import session
from ._emit import outputs_of
from ._kinds import Constant, Node, Pad, Value
from ._program import Program

_MOST = 2**24  # the largest whole number to which float32 counts exactly


def sizes_of(value: Value) -> tuple[Any, ...]:
    """Returns the shape of a value, all of whose sizes are known."""
    return value.shape or ()


def loops(*sequences: np.ndarray) -> tuple[list[int], list[list[int]]]:
    """Returns sizes and steps of nested loops that produce some sequences of indices.

    Raises `InvalidValue` if there are no such loops.
    """
    sizes, steps, rows = list[int](), list[list[int]](), np.stack(sequences)
    while rows.shape[1] > 1:
        apart = np.diff(rows)
        breaks = np.flatnonzero((apart != apart[:, :1]).any(axis=0))
        run = int(breaks[0]) + 1 if len(breaks) else rows.shape[1]
        if rows.shape[1] % run:
            raise InvalidValue("moves numbers in no regular steps")
        runs = rows.reshape(len(rows), -1, run)
        if np.any(runs - runs[..., :1] != apart[:, :1, None] * np.arange(run)):
            raise InvalidValue("moves numbers in no regular steps")
        sizes.insert(0, run)
        steps.insert(0, apart[:, 0].tolist())
        rows = rows[:, ::run]
    return sizes, [[step[i] for step in steps] for i in range(len(sequences))]


def moves(
    program: Program, node: Node, reads: Sequence[Value]
) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
    """Returns from which elements of `reads` each map that a node makes is copied.

    For each map, a list of (place in `reads`, indices in the map, indices in that
    input). They are found by running the node on inputs that count from 1.
    """
    inner = replace(node, value=0.0) if isinstance(node, Pad) else node
    makers = [m for x in node.reads if (m := program.maker(x, Constant)) is not None]
    ends = np.cumsum([0, *(prod(sizes_of(x)) for x in reads)])
    if ends[-1] >= _MOST or any(x.dtype.is_bool for x in reads):
        raise InvalidValue(f"moves maps of {ends[-1]:,} numbers, or of truth values")
    numbers = [
        np.arange(start + 1, end + 1).reshape(sizes_of(x))
        for x, start, end in zip(reads, ends[:-1], ends[1:], strict=True)
    ]
    found = []
    for array in _outputs(Program(reads, [*makers, inner], node.makes), numbers):
        of = np.ravel(array).astype(int)
        limits = zip(ends[:-1], ends[1:], strict=True)
        places = [np.flatnonzero((of > start) & (of <= end)) for start, end in limits]
        rows = enumerate(zip(places, ends[:-1], strict=True))
        found.append(
            [(i, to, of[to] - 1 - start) for i, (to, start) in rows if len(to)]
        )
    return found


def _outputs(program: Program, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of a program whose inputs may have different batch sizes."""
    with tf.Graph().as_default() as graph:
        starts = [tf.compat.v1.placeholder(x.dtype, x.shape) for x in program.inputs]
        ends = outputs_of(program, starts)
    return session(graph).run(ends, dict(zip(starts, inputs, strict=True)))
