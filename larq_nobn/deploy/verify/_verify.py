"""Proves that a converted file computes what the given model computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import _graph, _segments, _signs
from .._errors import ConversionError, VerificationError
from ..lite._converter import Runner, run
from ..prepare._prepare import half_precision, in_float32
from ._agreement import agreement, differences, top1_agreement
from ._file import rounding_to_bytes
from ._thresholds import differing_threshold

# What a file computes for examples, at the signs of its model.
ReadSigns = Callable[[list[np.ndarray]], _segments.Recording]

GIVEN = "the given model"
NOTHING_WRITTEN = " No file was written."

# Both forms compute in float32 and in Keras. Apart from signs within rounding of 0,
# they differ by the order of a few sums only.
_EQUAL = 1e-5
# Up to this, it may still be rounding.
_MAGNIFIED = 1e-3
# So many signs may bear the name of another layer.
_DOUBTFUL = 3
_ROUNDING = (
    f" Differences below {_MAGNIFIED:g} may be rounding that a norm magnifies: look "
    "for one of constant maps, or with a variance next to 0, and raise its epsilon."
)


def verify_prepared(
    model: keras.Model,
    flat: keras.Model,
    prepared: keras.Model,
    examples: Sequence[np.ndarray],
    ending: str = NOTHING_WRITTEN,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Compares the given model with the prepared one, both in Keras.

    A mixed-precision model rounds so coarsely that nearly every example has a sign that
    flips. It is compared in float32, and its own outputs by their top class only.

    Arguments:
        model: As it was given: its outputs count.
        flat: The same in one graph of layers, which is cut at its signs.
        prepared: What becomes the file.
        examples: One array per input.
        ending: What a message says of the file at last.

    Returns:
        How far they agree, and the outputs of the prepared one.

    Raises:
        ConversionError: If the given model cannot be compared with anything.
        VerificationError: If some difference is no matter of rounding.
    """
    wanted = checked_outputs(model, outputs(model, examples), len(examples[0]))
    reference, basis = flat, GIVEN
    policy = half_precision(flat)
    if policy is not None:
        reference = in_float32(flat)
    if type(model) is not type(flat) or not set(model.layers) <= set(flat.layers):
        _check_copy(wanted, outputs(flat, examples), ending)
    segments = _segments.compare(reference, prepared_signs(prepared), examples, _EQUAL)
    if segments.finding:
        worst = max(
            result.worst for result in segments.results.values() if result.fault
        )
        small = _ROUNDING if worst <= _MAGNIFIED else ""
        what = "Preparing the model changed what it computes"
        raise_mismatch(segments, what, _EQUAL, small + ending)
    if policy is not None:
        same = top1_agreement(wanted, segments.outputs)
        basis = (
            f"{GIVEN} in float32; in its {policy} {same:.1%} of the examples have "
            "the same top class"
        )
        wanted = outputs(reference, examples)
    numbers = agreement(wanted, segments.outputs, _EQUAL, segments)
    made = [output.astype(np.float32) for output in segments.outputs]
    return {**numbers, "reference": basis}, made


def _check_copy(
    wanted: list[np.ndarray], copied: list[np.ndarray], ending: str
) -> None:
    """Checks that one graph of layers computes what the given model does.

    Both make the same calls, so that not even rounding differs.
    """
    worst = [differences(*pair)[1].max() for pair in zip(wanted, copied, strict=True)]
    if not max(worst) <= _EQUAL:
        raise VerificationError(
            "Copying the layers of the model into one graph changed what it computes, "
            f"by {max(worst):.3g} of its outputs. Look for a layer that depends on "
            f"more than its configuration and its weights.{ending}"
        )


def prepared_signs(
    prepared: keras.Model,
) -> Callable[[list[np.ndarray]], _segments.Recording]:
    """Returns what reads a prepared model, its signs as those of the given model.

    Where preparation negated a sign, the given model has the opposite one; the signs
    of groups of channels are one sign there.
    """
    gains: dict[str, Any] = {
        call.label: getattr(_signs.sign_of_call(call), "gain", None)
        for call in _graph.calls(prepared)
    }

    def read(examples: list[np.ndarray]) -> _segments.Recording:
        recording = _segments.record(prepared, examples)
        signs = {
            label: x if gains[label] is None else x == (gains[label] > 0)
            for label, x in recording.signs.items()
        }
        still = {
            label: x if gains[label] is None else x.negated(gains[label] < 0)
            for label, x in recording.still.items()
        }
        for label, parts in _groups(signs).items():
            still[label] = _joined(
                [still[part] for part in parts],
                [signs[part].shape[-1] for part in parts],
            )
            signs[label] = np.concatenate([signs[part] for part in parts], axis=-1)
        return recording._replace(signs=signs, still=still)

    return read


def _groups(signs: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """The signs of layers in groups, which are a layer for each group by now."""
    groups: dict[str, list[str]] = {}
    for label in signs:
        name, slash, use = label.partition("/1")
        number = 1
        if not slash or (use and not use.startswith(" (")):
            continue
        parts = []
        while (part := f"{name}/{number}{use}") in signs:
            parts.append(part)
            number += 1
        groups[name + use] = parts
    return groups


def _joined(
    parts: Sequence[_segments.ConstantSigns], sizes: Sequence[int]
) -> _segments.ConstantSigns:
    """Joins the constant signs of groups of so many channels each."""
    starts = np.cumsum([0, *sizes[:-1]])
    return _segments.ConstantSigns(
        np.concatenate([p.channels + n for p, n in zip(parts, starts, strict=True)]),
        np.concatenate([part.distances for part in parts], axis=-1),
    )


def verify_file(
    prepared: keras.Model,
    wanted: Sequence[np.ndarray],
    signs: ReadSigns,
    flatbuffer: bytes,
    runner: Runner,
    examples: Sequence[np.ndarray],
    tolerance: float,
) -> dict[str, Any]:
    """Compares the prepared model in Keras with the file in its interpreter.

    Arguments:
        prepared: The model that the file was written from.
        wanted: Its outputs.
        signs: Returns what the file computes for examples, at the signs of its model.
        flatbuffer: The content of the file.
        runner: Runs it.
        examples: One array per input.
        tolerance: Allowed difference, relative to how far the numbers of a channel are
            apart.

    Raises:
        VerificationError: If some difference is no matter of rounding.
    """
    segments = _segments.compare(prepared, signs, examples, tolerance)
    size = runner.batch_size
    if segments.finding:
        # A layer may depend on all examples of a batch, of which a file has its own.
        segments = _segments.compare(prepared, signs, examples, tolerance, at_once=size)
        segments = _past_names(segments, prepared, signs, examples, tolerance, size)
    if segments.finding:
        raise_mismatch(
            segments,
            "The converted file computes something else",
            tolerance,
            f" {rounding_to_bytes(flatbuffer)}".rstrip() + NOTHING_WRITTEN,
        )
    differing = differing_threshold(prepared, flatbuffer)
    if differing:
        raise VerificationError(
            "The converted file computes something else, though in none of the "
            f"examples: {differing}.{NOTHING_WRITTEN}"
        )
    return agreement(wanted, segments.outputs, tolerance, segments)


def _past_names(
    segments: _segments.Segments,
    prepared: keras.Model,
    signs: ReadSigns,
    examples: Sequence[np.ndarray],
    tolerance: float,
    size: int,
) -> _segments.Segments:
    """Compares without the signs that differ, which may bear a wrong name in the file.

    The converter gives a tensor the name of any of the layers that it merged. Without
    that cut the segment is longer, and proved all the same: a sign that really differs
    is found at the next one, or changes nothing.
    """
    longer, hidden = segments, set[str]()
    while longer.finding and len(hidden) < _DOUBTFUL:
        kind, name = next(key for key, result in longer.results.items() if result.fault)
        if kind != "sign":
            break
        hidden.add(name)
        shown = partial(_without, signs, frozenset(hidden))
        longer = _segments.compare(prepared, shown, examples, tolerance, at_once=size)
    return segments if longer.finding else longer


def _without(
    signs: ReadSigns,
    hidden: frozenset[str],
    examples: list[np.ndarray],
) -> _segments.Recording:
    recording = signs(examples)
    kept = {
        label: bits for label, bits in recording.signs.items() if label not in hidden
    }
    return recording._replace(signs=kept)


def outputs(model: keras.Model, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Applies a model to all examples, and returns float32."""
    return [output.astype(np.float32) for output in run(model, examples)]


def checked_outputs(
    model: keras.Model, given: list[np.ndarray], count: int
) -> list[np.ndarray]:
    """Checks what a given model gives for `count` examples, and returns it.

    Raises:
        ConversionError: If it cannot be compared with anything.
    """
    for name, output in zip(model.output_names, given, strict=True):
        if len(output) != count:
            raise ConversionError(
                f"Output {name!r} of model {model.name!r} has {len(output)} rows for "
                f"{count} examples. Give it one for each, along the first axis."
            )
        if not np.isfinite(output).all():
            raise ConversionError(
                f"Model {model.name!r} gives outputs that are not finite on the "
                "verification examples. Look for NaN in its weights, or pass other "
                "data."
            )
    return given


def raise_mismatch(
    segments: _segments.Segments,
    what: str,
    tolerance: float,
    ending: str = NOTHING_WRITTEN,
) -> None:
    """Raises a VerificationError that says how many examples differ, and where."""
    raise VerificationError(
        f"{what}: {len(segments.faulty)} of {segments.examples} examples differ by "
        f"more than tolerance={tolerance:g}, and not by the rounding of a sign: "
        f"{segments.finding}.{ending}"
    )
