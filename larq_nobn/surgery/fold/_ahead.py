"""Batch norm before signs and layers of weights, which take its gain and bias over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..._keras import keras
from ...graph import Call, Steps, is_binary, kernel_value, sign_of, steps_behind
from ...layers import SignFlipDropout
from .._linear import Linear
from ._chains import Chain
from ._plan import NotExact, Plan, Scaling, Shift
from ._pools import passes
from ._signs import PLAIN_SIGNS, shifted

_layers = keras.layers
# Of the input with some channels negated, they make the output with those negated.
_ODD = (SignFlipDropout, _layers.Dropout)


class Edit(NamedTuple):
    """A change to a plan, and what it is called; without words if it is a detail."""

    words: str
    apply: Callable[[], None]


def into_layers_ahead(plan: Plan, chain: Chain) -> str:
    """Hands gain and bias to all that reads them, if all of it can take them.

    Returns:
        What was done.

    Raises:
        NotExact: If one of them cannot.
    """
    if len(chain.ends) > 1:
        raise NotExact("it is used more than once")
    steps = plan.steps.get(id(chain.starts[0]))
    edits = list(_ahead(plan, chain.ends[0], chain.scaling, chain.dtype, steps))
    for edit in edits:
        edit.apply()
    plan.dropped |= set(chain.names)
    return " and ".join(dict.fromkeys(edit.words for edit in edits if edit.words))


def _ahead(
    plan: Plan, tensor: Any, scaling: Scaling, dtype: str, steps: Steps | None
) -> Iterator[Edit]:
    """What each reader of a tensor has to do for it to lose its gain and bias.

    Without these it has the given steps.
    """
    if plan.graph.is_output(tensor):
        raise NotExact("it is an output of the model")
    for call in plan.graph.consumers(tensor):
        if plan.is_shared(call):
            raise NotExact(f"{call.described} is used more than once")
        if call.layer.compute_dtype != dtype:
            raise NotExact(f"{call.described} computes in {call.layer.compute_dtype}")
        passed = passes(call, scaling)
        if passed is not None:
            there = steps_behind(call, [steps])
            yield from _ahead(plan, call.first_output, passed, dtype, there)
        elif is_binary(quantizer := _sign(call)):
            plan.check_trains(call, scaling)
            shift = shifted(quantizer, scaling, steps)
            yield from _into_sign(plan, call, shift, scaling.gain < 0)
        else:
            plan.check_trains(call, scaling)
            yield _into_kernel(plan, call, scaling)


def _sign(call: Call) -> Any:
    return getattr(call.layer, "input_quantizer", None) or sign_of(call.layer)


def _into_kernel(plan: Plan, call: Call, scaling: Scaling) -> Edit:
    linear = plan.linear(call, "behind it")
    if getattr(call.layer, "input_quantizer", None) is not None:
        raise NotExact(f"{call.described} quantizes its input")
    if any(linear.is_quantized(name) for name in linear.kernels):
        raise NotExact(f"the kernel of {call.name!r} is quantized")
    if np.any(scaling.bias) and not linear.is_uniform:
        raise NotExact(f"{call.described} does not see as much of its input everywhere")
    if linear.border:
        raise NotExact(f"{call.name!r} pads with {linear.border:g}")
    return Edit(
        f"folded into {call.name!r}",
        partial(linear.scale_inputs, scaling.gain, scaling.bias),
    )


def _into_sign(
    plan: Plan, call: Call, shift: Shift, negative: np.ndarray
) -> Iterator[Edit]:
    inside = sign_of(call.layer) is None
    where = f"in {call.name!r}" if inside else f"{call.name!r}"
    if np.any(negative):
        yield Edit("", partial(plan.turned.__setitem__, call.name, negative))
        for reader in [call] if inside else _readers(plan, call.first_output):
            yield _turn(plan, reader, negative)
    edit = partial(plan.signs.__setitem__, call.name, shift)
    yield Edit(f"became the shift of the sign {where}", edit)


def _readers(plan: Plan, tensor: Any) -> Iterator[Call]:
    """The calls in whose kernels what is negated can be negated back."""
    if plan.graph.is_output(tensor):
        raise NotExact("some gains are negative, and the sign is an output")
    for call in plan.graph.consumers(tensor):
        if plan.is_shared(call):
            raise NotExact(f"some gains are negative, and {call.described} is shared")
        if isinstance(call.layer, _ODD):
            yield from _readers(plan, call.first_output)
        elif _keeps_signs(getattr(call.layer, "input_quantizer", None)):
            yield call
        else:
            raise NotExact(
                f"some gains are negative, and {call.described} quantizes too"
            )


def _keeps_signs(quantizer: Any) -> bool:
    """Whether a quantizer returns -1 and +1 as they are."""
    return quantizer is None or type(quantizer) in PLAIN_SIGNS


def _turn(plan: Plan, call: Call, negative: np.ndarray) -> Edit:
    """Negates input channels of a kernel."""
    linear = plan.linear(call, "behind the sign")
    if linear.border:
        raise NotExact(
            f"some gains are negative, and {call.name!r} pads with {linear.border:g}"
        )
    factor = linear.by_input(np.where(negative, -1.0, 1.0))
    name = linear.first
    turned = linear.kernels[name] * factor
    if linear.is_quantized(name):
        # What is exactly 0 counts as positive, negated or not; so small is not yet 0
        # in float16.
        turned = np.where((turned == 0) & (factor < 0), -1e-7, turned)
        _check_odd(linear, call, turned, factor)
    return Edit("", partial(linear.assign, name, turned))


def _check_odd(
    linear: Linear, call: Call, turned: np.ndarray, factor: np.ndarray
) -> None:
    variable = linear.variable(linear.first)
    before = kernel_value(variable, linear.kernels[linear.first])
    after = kernel_value(variable, turned)
    if not np.allclose(after, before * factor, rtol=1e-5, atol=0):
        raise NotExact(
            f"some gains are negative, and the kernel_quantizer of {call.name!r} does "
            "not negate what is negated"
        )
