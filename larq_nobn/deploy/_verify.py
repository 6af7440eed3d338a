"""Proves that a converted file computes what the given model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ._agreement import Agreement, SignPair, agreement
from ._errors import ConversionError, VerificationError
from ._flatbuffer import Runner
from ._prepare import half_precision, in_float32
from ._taps import Tap, converted_signs, given_signs, sign_inputs, sign_pairs

_GIVEN = "the given model"
_BATCH = 32


def verify_conversion(
    model: keras.Model,
    prepared: keras.Model,
    runner: Runner,
    examples: np.ndarray,
    tolerance: float,
) -> dict[str, Any]:
    """Compares given with prepared model, and prepared model with file.

    A mixed-precision model rounds so coarsely that nearly every example has a sign that
    flips. It is compared in float32, and its own outputs by their top class only.

    Returns:
        The numbers of the second comparison, those of the first under `"prepared"`.

    Raises:
        VerificationError: If some difference is no matter of rounding.
    """
    reference, basis = model, _GIVEN
    output, wanted = (outputs(inference(m), examples) for m in (model, prepared))
    if not np.isfinite(output).all():
        raise ConversionError(
            f"Model {model.name!r} gives outputs that are not finite on the "
            "verification examples. Look for NaN in its weights, or pass other data."
        )
    policy = half_precision(model)
    if policy is not None:
        reference = in_float32(model)
        same = np.argmax(output, -1) == np.argmax(wanted, -1)
        basis = f"{_GIVEN} in float32; in its {policy} {same.mean():.1%} keep their top"
        output = outputs(inference(reference), examples)
    inputs, prepared_signs = sign_inputs(prepared), given_signs(prepared)

    @cache
    def signs_of_reference() -> Tap:
        return given_signs(reference)

    @cache  # a second conversion, needed only if some example differs
    def signs_of_file() -> Tap:
        return converted_signs(prepared, runner)

    def compare(other: np.ndarray, signs: Callable[[], Tap]) -> Agreement:
        def pairs(which: np.ndarray) -> Iterator[SignPair]:
            return sign_pairs(prepared_signs, signs(), inputs, examples[which])

        return agreement(wanted, other, tolerance, pairs)

    first = compare(output, signs_of_reference)
    _require(first, "Preparing the model changed what it computes", tolerance)
    second = compare(runner(examples), signs_of_file)
    _require(second, "The converted file computes something else", tolerance)
    return {**second.to_dict(), "prepared": {**first.to_dict(), "reference": basis}}


def inference(model: keras.Model) -> Callable[[Any], tf.Tensor]:
    """Returns the model's inference function."""
    return lambda x: model(x, training=False)


def outputs(function: Callable[[Any], tf.Tensor], examples: np.ndarray) -> np.ndarray:
    """Applies a function to all examples, in batches, and returns float32."""
    starts = range(0, len(examples), _BATCH)
    batches = [function(examples[start : start + _BATCH]) for start in starts]
    return np.concatenate([tf.cast(batch, tf.float32).numpy() for batch in batches])


def _require(found: Agreement, what: str, tolerance: float) -> None:
    if found.unexplained:
        raise VerificationError(
            f"{what}: {found.unexplained} of {found.examples} examples differ by more "
            f"than tolerance={tolerance:g}, and not by the rounding of a sign: "
            f"{found.finding}. No file was written."
        )
