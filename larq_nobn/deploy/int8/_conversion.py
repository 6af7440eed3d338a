"""The conversion to int8: what it asks of a model, how kernels round, and its proof.

From end to end, model and file may differ a lot on any example: int8 arithmetic rounds
sums that Keras does not round, a value near 0 gets the other sign, and a binary network
amplifies that. But between one rounded map and the next nothing is amplified, and every
sign is taken of numbers that both sides contain exactly. So the network is cut at the
maps of the file, as it is cut at signs elsewhere. Keras computes each map from the maps
before it, as the file contains those, and every element must agree within one and a
half quantization steps, for every example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._progress import step
from ...graph import _graph
from ...layers import FakeQuantization
from .._errors import ConversionError, VerificationError
from ..lite._converter import IoSpec, Runner, TensorInfo, to_flatbuffer
from ..operations import Stages
from ..operations._emit import form_of, outputs_of
from ..operations._int8 import without_ranges as no_ranges
from ..operations._kinds import Node, Range
from ..operations._program import Program
from ..trace._operation_names import layer_of
from ..trace._trace import Trace
from ..verify import _segments
from ..verify._lowered import verify_made
from ..verify._same import matched
from ..verify._segments import Examples, Recording, agreement, by_example
from ._fake_quantize import without_ranges


def check_int8(model: keras.Model, int8: bool) -> None:
    """Checks that a model has all ranges for an int8 file, or none for another file."""
    graph = _graph.Graph(model)
    ranges = [c for c in graph.calls if isinstance(c.layer, FakeQuantization)]
    if not int8 and ranges:
        raise ConversionError(
            f"Layer {ranges[0].name!r} is a FakeQuantization, which makes the layers "
            "around it int8. Pass int8=True (--int8), or convert the model without it."
        )
    if not int8 or not ranges:
        return
    for call in ranges:
        if not call.layer.has_range:
            raise ConversionError(
                f"Layer {call.name!r} has no range yet. Train the model on some "
                "batches, or call set_range on the layer."
            )
    for given in model.inputs:
        readers = [c.layer for c in graph.consumers(given)]
        rounded = all(isinstance(layer, FakeQuantization) for layer in readers)
        # Integers are row numbers of a table, and are not rounded.
        if not (rounded or given.dtype.is_integer):
            raise ConversionError(
                f"Input {given.name!r} of model {model.name!r} does not go into a "
                "FakeQuantization, so an int8 file cannot take it. Pass the model "
                "without its ranges, and calibrate=images."
            )


# --- its proof

# Rounding itself takes half a step. The rest is for shifts, which the file rounds to 8
# bits and Keras does not, and for the fixed-point factors of int8 arithmetic. Measured:
# 0.50 to 0.75 on the networks of this package.
MOST_STEPS = 1.5
_GROUP = 16


def verify_int8(stages: Stages, runner: Runner, examples: Examples) -> dict[str, Any]:
    """Compares an int8 file with its program, map by map.

    `exact_share` is the fraction of examples whose outputs are within one quantization
    step, and distances under `"segments"` are in these steps.
    """
    segments, ends = _compared(stages, runner, examples)
    for result in segments.results.values():
        if result.faulty:
            raise VerificationError(
                "The converted file computes something else: from the maps that the "
                f"file has before, Keras computes a map of layer {result.name!r} "
                f"that is up to {result.worst:.3g} quantization steps away, in "
                f"{len(result.faulty)} of {segments.examples} examples, while rounding "
                f"reaches {MOST_STEPS:g}. No file was written."
            )
    wanted = form_of(stages.rounded).outputs_of(examples)
    near = np.ones(segments.examples, bool)
    for first, second, tensor in zip(wanted, segments.outputs, ends, strict=True):
        distance = _away(first, second).reshape(len(first), -1).max(axis=1)
        near &= distance <= 1.01 * (tensor.scale or 0.0)
    return {
        **agreement(wanted, segments.outputs, np.inf, segments),
        "exact_share": float(near.mean()),
        "explained": int((~near).sum()),  # by rounding, as the maps have shown
        "int8": {
            "maps": len(segments.results),
            "worst_steps": max(result.worst for result in segments.results.values()),
            "inputs": [asdict(tensor) for tensor in runner.input_tensors],
            "outputs": [asdict(tensor) for tensor in runner.output_tensors],
        },
    }


class _Maps:
    """The maps of an int8 file: as the file has them, and as Keras computes each.

    Attributes:
        ranges: The range of each map. The runner rounds the inputs, so these have none.
        loose: The places of outputs that no range rounds; they are compared, too.
        outputs: The int8 form of the outputs, whatever type the file gives.
        steps: The steps of maps, then of loose outputs; the model's steps for maps,
            since the file's own may be wrong.
    """

    def __init__(self, stages: Stages, runner: Runner) -> None:
        program, self._runner = stages.rounded, runner
        ranges = (node for node in program.nodes if isinstance(node, Range))
        self.ranges = [node for node in ranges if program.maker(node.x) is not None]
        self._inner = [x for x in self.ranges if not program.is_output(x.y)]
        ends = {id(node.y) for node in self.ranges}
        places = range(len(program.outputs))
        self.loose = [i for i in places if id(program.outputs[i]) not in ends]
        # Leads from each map to the inputs of the next ranges.
        between = Program(
            [*program.inputs, *(node.y for node in self.ranges)],
            [node for node in program.nodes if id(node.y) not in ends],
            [*(x.x for x in self.ranges), *(program.outputs[i] for i in self.loose)],
        )
        self._form, self._ends = form_of(between), [id(x) for x in program.outputs]
        self._visible = _visible(stages, self._inner, runner.runtime)
        self.outputs = self._visible.output_tensors[len(self._inner) :]
        self.steps: list[Any] = [node.step for node in self.ranges]
        self.steps += [self.outputs[i].scale for i in self.loose]

    def inputs(self, examples: Examples) -> list[np.ndarray]:
        """Returns examples as the file rounds them; pixels are steps already."""
        pairs = zip(self._visible.input_tensors, examples, strict=True)
        return [
            x if t.scale is None or x.dtype == np.uint8 else t.decode(t.encode(x))
            for t, x in pairs
        ]

    def in_file(self, inputs: Examples) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the outputs of the file, and its maps and loose outputs."""
        count, inner = len(inputs[0]), len(self._inner)
        shown, outputs = self._visible.outputs(inputs), self._runner.outputs(inputs)
        if not all(map(np.array_equal, shown[inner:], outputs)):
            raise VerificationError(
                "The converted file and the same file with its feature maps made "
                "visible compute different outputs, so it cannot be compared map by "
                "map. Convert the model without ranges and int8. No file was written."
            )
        maps = (by_example(x[..., :-1], count) for x in shown[:inner])
        known = dict(zip((id(node.y) for node in self._inner), maps, strict=True))
        known |= dict(zip(self._ends, outputs, strict=True))
        made = [known[id(node.y)] for node in self.ranges]
        return outputs, [*made, *(outputs[i] for i in self.loose)]

    def computed(self, inputs: Examples, maps: Examples) -> list[np.ndarray]:
        """Returns what Keras computes for each map from the maps before it."""
        made = self._form.outputs_of([*inputs, *maps])
        pairs = zip(self.ranges, made, strict=False)
        ends = [np.clip(x, node.low, node.high) for node, x in pairs]
        return [*ends, *made[len(self.ranges) :]]


def _compared(
    stages: Stages, runner: Runner, examples: Examples
) -> tuple[_segments.Segments, list[TensorInfo]]:
    """Compares maps and loose outputs, in steps; returns the int8 outputs, too."""
    maps, parts = _Maps(stages, runner), list[list[np.ndarray]]()
    inputs, segments = maps.inputs(examples), _segments.Segments(len(examples[0]))
    named = [("layer", node.name, layer_of(node)) for node in maps.ranges]
    names = (stages.io.outputs[i] for i in maps.loose)
    named += [("output", name, name) for name in names]
    for rows in _segments.grouped(examples, _GROUP):
        step("Comparing examples", rows[0], segments.examples)
        taken = [array[rows] for array in inputs]
        outputs, theirs = maps.in_file(taken)
        parts.append(outputs)
        given, made_of = theirs[: len(maps.ranges)], partial(maps.computed, taken)
        made = made_of(given)
        distances = map(_steps, made, theirs, maps.steps)
        if any(np.any(distance > MOST_STEPS) for distance in distances):
            made = _past_jumps(made_of, given, maps.steps, made, theirs)
        columns = zip(named, made, theirs, maps.steps, strict=True)
        for (kind, key, label), mine, own, apart in columns:
            result = _segments.CutResult(label)
            result = segments.results.setdefault((kind, key), result)
            away = _steps(mine, own, apart).reshape(len(rows), -1)
            worst = away.max(axis=1, initial=0)
            result.worst = max(result.worst, float(worst.max()))
            result.count += away.size
            result.faulty |= {rows[i] for i in np.flatnonzero(worst > MOST_STEPS)}
    segments.outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return segments, maps.outputs


def _past_jumps(
    made_of: Callable[[Sequence[np.ndarray]], list[np.ndarray]],
    given: Sequence[np.ndarray],
    steps: Sequence[float],
    made: list[np.ndarray],
    theirs: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Returns the computed maps, where every jump goes to the side of the file.

    A comparison such as `y > 0.1` makes a jump: an input that is off by its rounding
    changes the result as a whole. To find jumps, the maps before are moved as far as
    rounding may move them: up, down, and alternately. At a jump, a third of that move
    changes either nothing, or as much as the whole move does. An element that changes
    less for the smaller move does not jump, and stays as it was computed.
    """
    best = made
    for side, turn in product((1, -1), repeat=2):
        signs = [side * turn**place for place in range(len(given))]

        def moved(size: float, signs: Sequence[int] = signs) -> list[np.ndarray]:
            off = [size * sign * n for sign, n in zip(signs, steps, strict=False)]
            return made_of([*map(np.add, given, off)])

        rows = zip(made, moved(MOST_STEPS / 3), moved(MOST_STEPS), strict=True)
        jumped = [np.where((a == x) | (a == b), b, x) for x, a, b in rows]
        best = [
            np.where(_away(x, y) < _away(old, y), x, old)
            for x, old, y in zip(jumped, best, theirs, strict=True)
        ]
    return best


def _away(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Returns the distances of numbers from those of a file."""
    theirs = theirs.astype(float).reshape(mine.shape)
    with np.errstate(invalid="ignore"):
        away = np.where(mine == theirs, 0.0, np.abs(mine - theirs))
    return np.where(np.isnan(away), np.inf, away)


def _steps(mine: np.ndarray, theirs: np.ndarray, apart: float | None) -> np.ndarray:
    """Returns distances in steps; for floats, in units of their rounding error."""
    apart = apart or 1e-5 * float(np.abs(mine).max(initial=0)) or 1.0
    return _away(mine, theirs) / apart


def _visible(stages: Stages, inner: Sequence[Node], runtime: str) -> Runner:
    """Returns a runner of the same file with all maps as outputs, to read them."""
    program, io, count = stages.spelled, stages.io, len(inner)
    wide = IoSpec(io.inputs, [f"map_{i}" for i in range(count + len(io.outputs))])

    def padded(inputs: Sequence[Any]) -> list[Any]:
        made = outputs_of(program, inputs, [node.y for node in inner])
        ends, maps = made[: len(io.outputs)], made[len(io.outputs) :]
        # An output that another operation reads must be a copy, as in the file.
        borders = ([[0, 0]] * (x.shape.rank - 1) + [[0, 1]] for x in maps)
        return [*map(tf.pad, maps, borders), *ends]

    return Runner(to_flatbuffer(padded, wide, True, runtime), runtime)


def verify_without_rounding(
    given: keras.Model, stages: Stages, examples: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Compares a model with its program, both without ranges.

    With ranges, two sums that differ in the last bit may be rounded to different steps.
    The program has the same ranges as the model, and its kernels are not rounded yet.
    """
    plain, io, trace = stages.traced.model, stages.io, stages.traced
    if ranged := any(isinstance(x, FakeQuantization) for x in plain.layers):
        plain = without_ranges(plain)
        trace = Trace(plain, io)
    program = no_ranges(stages.merged)
    own, others = matched(trace.signs(), stages.traced.signs())
    same_signs = dict(zip(map(id, others), own, strict=True))
    known = stages.signs_in(program, others)
    sources = dict.fromkeys(x for _, value in known for x in program.sources(value))
    outputs, count = [*program.outputs, *sources], len(io.outputs)
    form = form_of(Program(program.inputs, program.nodes, outputs))

    def read(part: Sequence[np.ndarray]) -> Recording:
        made = form.outputs_of(part)
        arrays = dict(zip(sources, made[count:], strict=True))
        values = [program.decoded(value, arrays) for _, value in known]
        return Recording(made[:count], values, {})

    first = plain if given is stages.traced.model else given
    if ranged and first is given:
        first = without_ranges(given)
    cuts = [same_signs[id(sign)] for sign, _ in known]
    same, _ = verify_made(first, trace, cuts, read, examples)
    return {**same, "reference": "the given model, before rounding to int8"}
