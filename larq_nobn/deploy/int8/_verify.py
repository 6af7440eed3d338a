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
from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import Segments
from .._errors import VerificationError
from ..lite import IoSpec, Runner, run
from ..prepare import in_float32, prepare
from ..verify import agreement, verify_prepared
from ._int8 import without_ranges
from ._maps import Maps

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
    maps = Maps(prepared, runner, io)
    starts = range(0, len(examples[0]), _GROUP)
    groups = [[array[i : i + _GROUP] for array in examples] for i in starts]
    parts = [maps.steps(group) for group in groups]
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
