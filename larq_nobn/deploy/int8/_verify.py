"""Proves that an int8 file computes what its Keras model computes, map by map.

From end to end the two may differ a lot on any example: int8 arithmetic rounds sums
that Keras does not, a value next to 0 gets the other sign, and a binary network
amplifies that. But between one rounded map and the next nothing is amplified, and every
sign is taken of numbers that both worlds hold exactly. So every map of the file is
compared with what Keras computes for it from the maps before, as the file holds those.
Every element must lie within one and a half quantization steps, for every example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._progress import step
from ...graph import Graph, Segments
from ...layers import FakeQuantization
from ...layers._fake_quantization import representable_range
from .._errors import VerificationError
from ..lite import IoSpec, Runner, inference, run, to_flatbuffer
from ..prepare import in_float32, prepare
from ..verify import agreement, verify_prepared
from ._model import without_ranges

# Half a step is rounding itself. The rest is for shifts, which the file rounds to 8
# bits and Keras does not, and for the fixed-point factors of int8 arithmetic. Measured:
# 0.50 to 0.75 on the networks of this package.
MOST_STEPS = 1.5
_GROUP = 32


def verify_int8(
    prepared: keras.Model, runner: Runner, io: IoSpec, examples: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Compares a prepared model with its int8 file.

    Arguments:
        prepared: With kernels rounded as the converter does.
        runner: Of the file.
        io: Of the file.
        examples: One array per input.

    Returns:
        How far the outputs agree from end to end, where `exact_share` counts examples
        whose outputs are within one quantization step, the maps under `"int8"`, and
        their distances, in these steps, under `"segments"`.

    Raises:
        VerificationError: If a map is farther off than rounding reaches.
    """
    maps = _Maps(prepared, runner, io)
    starts = range(0, len(examples[0]), _GROUP)
    groups = [[array[i : i + _GROUP] for array in examples] for i in starts]
    parts = []
    for start, group in zip(starts, groups, strict=True):
        step("Comparing examples", start, len(examples[0]))
        parts.append(maps.steps(group))
    steps = {label: np.concatenate([p[label] for p in parts]) for label in parts[0]}
    for label, distances in steps.items():
        far = ~(distances <= MOST_STEPS)  # a NaN is far, too
        if far.any():
            raise VerificationError(
                "The converted file computes something else: of the maps that the file "
                f"itself holds before, Keras makes a map of layer {label!r} that is up "
                f"to {distances.max():.3g} quantization steps away, in {far.sum()} of "
                f"{len(far)} examples, while rounding reaches {MOST_STEPS:g}. No file "
                "was written."
            )
    held = {
        "maps": len(steps),
        "worst_steps": float(max(distances.max() for distances in steps.values())),
        "inputs": [asdict(tensor) for tensor in runner.input_tensors],
        "outputs": [asdict(tensor) for tensor in runner.output_tensors],
    }
    segments = Segments(len(examples[0]))
    for label, distances in steps.items():
        place = segments.place("map", label)
        place.worst = float(distances.max())
    return {**_end_to_end(prepared, runner, examples, segments), "int8": held}


def _end_to_end(
    prepared: keras.Model,
    runner: Runner,
    examples: Sequence[np.ndarray],
    segments: Segments,
) -> dict[str, Any]:
    wanted, found = run(prepared, examples), runner.outputs(examples)
    near = np.ones(len(examples[0]), bool)
    for first, second, tensor in zip(wanted, found, runner.output_tensors, strict=True):
        distance = np.abs(first - second).reshape(len(first), -1).max(axis=1)
        near &= distance <= 1.01 * (tensor.scale or 0.0)
    numbers = agreement(wanted, found, np.inf, segments)
    # Map by map, everything has been explained by then.
    share, explained = float(near.mean()), int((~near).sum())
    return {**numbers, "exact_share": share, "explained": explained}


def verify_without_rounding(
    given: keras.Model, examples: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Compares the given model with the prepared one, both without their ranges.

    With them, two sums that differ in the last bit may be rounded to different steps;
    and what is prepared keeps the ranges as they are.

    Raises:
        VerificationError: If some difference is no matter of rounding.
    """
    plain = without_ranges(in_float32(given))
    same = verify_prepared(plain, plain, without_ranges(prepare(given)), examples)
    return {**same, "reference": "the given model, both without rounding to int8"}


class _Map(NamedTuple):
    """A feature map that a file holds as int8, or an output of it."""

    label: str
    before: Any  # the tensor of Keras before it is rounded
    after: Any  # and after that, as the next layers read it
    range: FakeQuantization | None


class _Maps:
    """The maps of a file, and how far each is from what Keras computes.

    LCE's interpreter shows outputs only. So the model is converted again with all maps
    as outputs, which must not change its outputs proper.

    Arguments:
        prepared: The model that was converted.
        shipped: Runs the file.
        io: Of the file.
    """

    def __init__(self, prepared: keras.Model, shipped: Runner, io: IoSpec) -> None:
        self._shipped = shipped
        graph = Graph(prepared)
        ranges = [c for c in graph.calls if isinstance(c.layer, FakeQuantization)]
        # Whoever runs a file rounds its inputs: here that is the runner.
        self._entries = [c for c in ranges if graph.producer(c.first_input) is None]
        inner = [
            _Map(c.label, c.first_input, c.first_output, c.layer)
            for c in ranges
            if c not in self._entries and not graph.is_output(c.first_output)
        ]
        ends = [_end(tensor, graph) for tensor in prepared.outputs]
        self._inner, self._all = len(inner), [*inner, *ends]
        self._of_input = [
            next(i for i, x in enumerate(prepared.inputs) if x is c.first_input)
            for c in self._entries
        ]
        # Of an output that is read inside as well, what the file holds counts, too.
        read = [i for i, m in enumerate(self._all) if graph.consumers(m.after)]
        self._read = [i for i in read if self._all[i].range is not None]
        starts = [c.first_output for c in self._entries]
        starts += [self._all[i].after for i in self._read]
        self._keras = keras.Model(starts, [m.before for m in self._all])
        self._file = self._wide_file(prepared, io)

    def _wide_file(self, prepared: keras.Model, io: IoSpec) -> Runner:
        wide = IoSpec(io.inputs, [f"map_{i}" for i in range(len(self._all))])
        tensors = [m.after for m in self._all]
        function = inference(keras.Model(prepared.inputs, tensors, name="net"))

        def padded(inputs: Sequence[Any]) -> list[Any]:
            maps = function(inputs)
            return [*map(_padded, maps[: self._inner]), *maps[self._inner :]]

        return Runner(to_flatbuffer(padded, prepared.variables, wide, int8=True))

    def steps(self, examples: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The largest distance within each map, in quantization steps, by example.

        Raises:
            VerificationError: If the file with all maps is not the shipped file.
        """
        held = self._file.outputs(examples)
        held[: self._inner] = [array[..., :-1] for array in held[: self._inner]]
        shipped = self._shipped.outputs(examples)
        if not all(map(np.array_equal, held[self._inner :], shipped)):
            raise VerificationError(
                "The converted file and the same file with its feature maps made "
                "visible compute different outputs, so it cannot be compared map by "
                "map. Leave out a FakeQuantization between a layer and its activation "
                "(larq_nobn.deploy.fake_quantize does). No file was written."
            )
        inputs = self._file.input_tensors
        rounded = [
            inputs[i].decode(inputs[i].encode(examples[i])) for i in self._of_input
        ]
        computed = run(self._keras, [*rounded, *(held[i] for i in self._read)])
        return {
            each.label: _distance(each, tensor.scale, x, y)
            for each, tensor, x, y in zip(
                self._all, self._file.output_tensors, computed, held, strict=True
            )
        }


def _end(tensor: Any, graph: Graph) -> _Map:
    maker = graph.producer(tensor)
    if maker is None or not isinstance(maker.layer, FakeQuantization):
        return _Map(tensor._keras_history.layer.name, tensor, tensor, None)
    return _Map(maker.label, maker.first_input, tensor, maker.layer)


def _padded(x: tf.Tensor) -> tf.Tensor:
    """Sets a map apart from the one that a sign after it takes.

    LCE loses the input of a sign that is an output, too, and its interpreter then
    breaks down. Padding copies, where a reshape would work in place.
    """
    return tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[0, 1]])


def _distance(
    each: _Map, scale: float | None, computed: np.ndarray, held: np.ndarray
) -> np.ndarray:
    if each.range is not None:
        ends = representable_range(each.range.minimum, each.range.maximum)
        low, high = map(float, ends)
        computed = np.clip(computed, low, high)
        scale = (high - low) / 255  # of the model: the file's own may be wrong
    farthest = np.abs(computed - held).reshape(len(held), -1).max(axis=1)
    # An output that stayed float is compared in units of float rounding.
    return farthest / (scale or 1e-5 * np.abs(computed).max() or 1.0)
