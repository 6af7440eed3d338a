"""Proves that a converted file computes what the given model computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..._keras import keras
from .._errors import ConversionError, VerificationError
from ..lite import Ports, Runner, batch_of, run
from ..prepare import half_precision, in_float32
from ._agreement import Agreement, SignPair, agreement, top1_agreement
from ._drift import first_drift
from ._taps import Tap, converted_signs, given_signs, sign_inputs, sign_pairs

GIVEN = "the given model"

# Both forms compute in float32 and in Keras. Apart from signs within rounding of 0,
# they differ by the order of a few sums only.
_EQUAL = 1e-5
# Up to this, it may still be rounding.
_MAGNIFIED = 1e-3
_ROUNDING = (
    f" Differences below {_MAGNIFIED:g} may be rounding that a norm magnifies: look "
    "for one of constant maps, or with a variance next to 0, and raise its epsilon."
)


def verify_prepared(
    model: keras.Model,
    flat: keras.Model,
    prepared: keras.Model,
    examples: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Compares the given model with the prepared one, both in Keras.

    A mixed-precision model rounds so coarsely that nearly every example has a sign that
    flips. It is compared in float32, and its own outputs by their top class only.

    Arguments:
        model: As it was given: its outputs count.
        flat: The same in one graph of layers: its signs explain differences.
        prepared: What becomes the file.
        examples: One array per input.

    Raises:
        ConversionError: If the given model cannot be compared with anything.
        VerificationError: If some difference is no matter of rounding.
    """
    found = checked_outputs(model, lambda: outputs(model, examples), len(examples[0]))
    wanted = outputs(prepared, examples)
    reference, basis = flat, GIVEN
    policy = half_precision(flat)
    if policy is not None:
        same = top1_agreement(found, wanted)
        basis = (
            f"{GIVEN} in float32; in its {policy} {same:.1%} of the examples have "
            "the same top class"
        )
        reference = in_float32(flat)
        found = outputs(reference, examples)
    compared = _compare(
        prepared, wanted, found, lambda: given_signs(reference), examples, _EQUAL
    )
    if compared.unexplained:
        small = _ROUNDING if compared.worst_rel <= _MAGNIFIED else ""
        what = "Preparing the model changed what it computes"
        refuse(compared, what, _EQUAL, small)
    return {**compared.to_dict(), "reference": basis}


def verify_file(
    prepared: keras.Model,
    runner: Runner,
    ports: Ports,
    examples: Sequence[np.ndarray],
    tolerance: float,
) -> dict[str, Any]:
    """Compares the prepared model in Keras with the file in LCE's interpreter.

    Raises:
        VerificationError: If some difference is no matter of rounding.
    """
    compared = _compare(
        prepared,
        outputs(prepared, examples),
        runner.outputs(examples),
        lambda: converted_signs(prepared, runner, ports),
        examples,
        tolerance,
    )
    if compared.unexplained:
        which = list(compared.unexplained_examples)
        differing = [array[which] for array in examples]
        refuse(
            compared,
            "The converted file computes something else",
            tolerance,
            " " + first_drift(prepared, differing, tolerance),
        )
    return compared.to_dict()


def outputs(model: keras.Model, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Applies a model to all examples, and returns float32."""
    return [output.astype(np.float32) for output in run(model, examples)]


def checked_outputs(
    model: keras.Model, apply: Callable[[], list[np.ndarray]], count: int
) -> list[np.ndarray]:
    """Applies a given model to `count` examples, and checks what it gives.

    Raises:
        ConversionError: If it cannot be compared with anything.
    """
    try:
        found = apply()
    except Exception as error:  # whatever a user's layer raises when called
        said = " ".join(filter(None, str(error).splitlines()[:3]))
        said = re.sub(r"\{\{.*?\}\} ?| \[Op:.*", "", said)[:300].rstrip(".")
        raise ConversionError(
            f"Model {model.name!r} cannot be called on the verification examples: "
            f"{said}. Pass data that it takes."
        ) from error
    for name, output in zip(model.output_names, found, strict=True):
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
    return found


def _compare(
    prepared: keras.Model,
    wanted: list[np.ndarray],
    found: list[np.ndarray],
    signs_of_found: Callable[[], Tap],
    examples: Sequence[np.ndarray],
    tolerance: float,
) -> Agreement:
    inputs, signs = sign_inputs(prepared), given_signs(prepared)
    # Of a file that is a second conversion, needed only if some example differs.
    other = cache(signs_of_found)

    def pairs(which: np.ndarray) -> Iterator[SignPair]:
        # As many as computed the outputs: how Keras rounds depends on their number.
        many = np.resize(which, max(len(which), batch_of(prepared, examples)))
        taken = [array[many] for array in examples]
        return sign_pairs(signs, other(), inputs, taken)

    return agreement(wanted, found, tolerance, pairs)


def refuse(found: Agreement, what: str, tolerance: float, where: str = "") -> None:
    """Raises a VerificationError that says how many examples differ, and where."""
    raise VerificationError(
        f"{what}: {found.unexplained} of {found.examples} examples differ by more "
        f"than tolerance={tolerance:g}, and not by the rounding of a sign: "
        f"{found.finding}.{where} No file was written."
    )
