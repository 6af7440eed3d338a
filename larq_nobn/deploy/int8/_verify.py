"""Proves that an int8 file computes what its Keras model computes, map by map.

From end to end the two may differ a lot on any example: int8 arithmetic rounds sums
that Keras does not, a value next to 0 gets the other sign, and a binary network
amplifies that. But between one rounded map and the next nothing is amplified, and every
sign is taken of numbers that both worlds hold exactly. So the maps of the file are the
segments, as signs are elsewhere: each is compared with what Keras computes for it from
the maps before, as the file holds those. Every element must lie within one and a half
quantization steps, for every example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call, Found, Graph, Grid, compare
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
    graph = Graph(prepared)
    ranges = [c for c in graph.calls if isinstance(c.layer, FakeQuantization)]
    # Whoever runs a file rounds its inputs: here that is the runner.
    ranges = [call for call in ranges if graph.producer(call.first_input) is not None]
    inner = [call for call in ranges if not graph.is_output(call.first_output)]
    visible, count = _visible(prepared, inner, io), len(inner)
    makers = [graph.producer(end) for end in prepared.outputs]
    labels = {call.label for call in ranges}
    # Of the model: the file's own may be wrong.
    grids = {call.label: _grid(call) for call in ranges}
    for name, tensor in zip(
        prepared.output_names, visible.output_tensors[count:], strict=True
    ):
        grids.setdefault(name, Grid(tensor.scale))

    def held(group: list[np.ndarray]) -> Found:
        maps = visible.outputs(group)
        ends = maps[count:]
        if not all(map(np.array_equal, ends, runner.outputs(group))):
            raise VerificationError(
                "The converted file and the same file with its feature maps made "
                "visible compute different outputs, so it cannot be compared map by "
                "map. Leave out a FakeQuantization between a layer and its activation "
                "(larq_nobn.deploy.fake_quantize does). No file was written."
            )
        values = {c.label: x[..., :-1] for c, x in zip(inner, maps, strict=False)}
        known = zip(makers, ends, strict=True)
        values |= {c.label: x for c, x in known if c is not None and c.label in labels}
        return Found(ends, {}, values, values, grids)

    pairs = zip(visible.input_tensors, examples, strict=True)
    rounded = [tensor.decode(tensor.encode(array)) for tensor, array in pairs]
    segments = compare(prepared, held, rounded, MOST_STEPS)
    for place in segments.places.values():
        if place.faulty:
            raise VerificationError(
                "The converted file computes something else: of the maps that the file "
                f"itself holds before, Keras makes a map of layer {place.name!r} that "
                f"is up to {place.worst:.3g} quantization steps away, in "
                f"{len(place.faulty)} of {segments.examples} examples, while rounding "
                f"reaches {MOST_STEPS:g}. No file was written."
            )
    wanted, found = run(prepared, examples), segments.outputs
    near = np.ones(len(examples[0]), bool)
    for first, second, tensor in zip(wanted, found, runner.output_tensors, strict=True):
        distance = np.abs(first - second).reshape(len(first), -1).max(axis=1)
        near &= distance <= 1.01 * (tensor.scale or 0.0)
    return {
        **agreement(wanted, found, np.inf, segments),
        "exact_share": float(near.mean()),
        "explained": int((~near).sum()),  # map by map, everything has been explained
        "int8": {
            "maps": count + len(makers),
            "worst_steps": max(place.worst for place in segments.places.values()),
            "inputs": [asdict(tensor) for tensor in runner.input_tensors],
            "outputs": [asdict(tensor) for tensor in runner.output_tensors],
        },
    }


def _visible(prepared: keras.Model, inner: Sequence[Call], io: IoSpec) -> Runner:
    """Runs the same file with all maps as outputs, since only those can be read."""
    edges = [*(call.first_output for call in inner), *prepared.outputs]
    wide = IoSpec(io.inputs, [f"map_{i}" for i in range(len(edges))])
    function = inference(keras.Model(prepared.inputs, edges, name="net"))

    def padded(inputs: Sequence[Any]) -> list[Any]:
        # LCE loses the input of a sign that is an output, too, and its interpreter then
        # breaks down. Padding copies, where a reshape would work in place.
        maps, count = function(inputs), len(inner)
        borders = ([[0, 0]] * (x.shape.rank - 1) + [[0, 1]] for x in maps[:count])
        return [*map(tf.pad, maps[:count], borders), *maps[count:]]

    return Runner(to_flatbuffer(padded, prepared.variables, wide, int8=True))


def _grid(call: Call) -> Grid:
    ends = representable_range(call.layer.minimum, call.layer.maximum)
    low, high = map(float, ends)
    return Grid((high - low) / 255, low, high)


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
