"""Proves that a file computes what the given model does, from sign to sign.

A network has four forms: the given model, its trace, the operations that the trace is
lowered to, and the file, which rules write from these operations. `_given.py` compares
the given model with its trace. All further comparisons cut the network at the signs of
the trace: one form computes each segment from the signs that the next form has there.
Binary kernels of the operations are ±1 and scaled afterwards, so sums that should be 0
are exactly 0, as in the file. The trace has rounding errors in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._keras import keras
from .._errors import ConversionError, VerificationError
from .._opening import other_precision
from ..lite import _converter
from ..lite._file import read
from ..operations import Stages
from ..trace._trace import Trace
from ._file_values import LOOK, differing_threshold, file_signs
from ._given import GIVEN_EQUAL, compare_given
from ._segments import (
    Cut,
    Examples,
    Recording,
    Segments,
    agreement,
    compare,
    recorder,
    top1_agreement,
)

REFERENCE = "the given model"
NOTHING_WRITTEN = " No file was written."
# Rounding between a trace and its operations, which merge its constants.
_EQUAL = 1e-5
# Differences up to this may still be rounding, which a norm has magnified.
_MAGNIFIED = 1e-3
_ROUNDING = (
    f" Differences below {_MAGNIFIED:g} may be rounding that a norm magnifies: look "
    "for one of constant maps, or with a variance next to 0, and raise its epsilon."
)


def verify_operations(
    model: keras.Model,
    stages: Stages,
    examples: Examples,
    ending: str = NOTHING_WRITTEN,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Compares the given model with the operations that its file is written from.

    Returns how far they agree, and the outputs of the operations. In half precision,
    rounding flips a sign in nearly every example. So such a model is compared in
    float32, as it was traced; its own outputs are compared by their top class only.
    """
    read = recorder(stages.exact, stages.cuts)
    return verify_made(model, stages.traced, stages.cuts, read, examples, ending)


def verify_made(
    model: keras.Model,
    trace: Trace,
    signs: Sequence[Cut],
    read: Callable[[Examples], Recording],
    examples: Examples,
    ending: str = NOTHING_WRITTEN,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Compares the given model with what `read` records at these signs of its trace."""
    policy = other_precision(model)
    given = compare_given(trace.model if policy else model, trace, examples)
    faults = [x.worst for x in given.results.values() if x.fault]
    small = _ROUNDING if max(faults, default=0) <= _MAGNIFIED else ""
    what = "Tracing the model changed what it computes"
    check(given, what, GIVEN_EQUAL, f" {LOOK}{small}{ending}")
    wanted = trace.form.outputs_of(examples)
    if not all(np.isfinite(output).all() for output in wanted):
        raise ConversionError(
            f"Model {model.name!r} gives outputs that are not finite on the "
            "verification examples. Look for NaN in its weights, or pass other data."
        )
    segments = compare(trace.form, trace.io, signs, read, examples, _EQUAL)
    check(segments, "Preparing the model changed what it computes", _EQUAL, ending)
    basis = REFERENCE
    if policy:
        made = _converter.run(model, examples)
        finite = np.all([[np.isfinite(x).all() for x in y] for y in made], axis=0)
        same = top1_agreement(made, segments.outputs)
        few = "" if finite.all() else f", {(~finite).mean():.1%} are not finite"
        basis = (
            f"{REFERENCE} in float32; in its {policy} {same:.1%} of the examples have "
            f"the same top class{few}"
        )
    numbers = agreement(wanted, segments.outputs, _EQUAL, segments)
    return {**numbers, "reference": basis}, segments.outputs


def verify_file(
    stages: Stages,
    wanted: Sequence[np.ndarray],
    content: bytes,
    runner: _converter.Runner,
    examples: Examples,
    tolerance: float,
) -> dict[str, Any]:
    """Compares the operations of a model and their outputs with the file."""
    signs, io = stages.traced.signs(), stages.io
    graph = read(content, "the file")[0]
    own, shown = file_signs(stages, signs, content, graph, runner)
    segments = compare(stages.exact, io, own, shown, examples, tolerance)
    check(segments, "The converted file computes something else", tolerance)
    differing = differing_threshold(stages.spelled, graph)
    if differing:
        raise VerificationError(
            "The converted file computes something else, though no example shows "
            f"it: {differing}.{NOTHING_WRITTEN}"
        )
    return agreement(wanted, segments.outputs, tolerance, segments)


def check(
    segments: Segments,
    what: str,
    tolerance: float,
    ending: str = NOTHING_WRITTEN,
) -> None:
    """Raises an error that says how many examples differ, and where they first do."""
    if segments.finding:
        raise VerificationError(
            f"{what}: {len(segments.faulty)} of {segments.examples} examples differ by "
            f"more than tolerance={tolerance:g}, and not by the rounding of a sign: "
            f"{segments.finding}.{ending}"
        )
