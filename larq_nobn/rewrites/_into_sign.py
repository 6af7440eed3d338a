r"""An affine operation before a sign is a threshold.

\[ \operatorname{sign}(k x + b) =
   \operatorname{sign}(k)\, \operatorname{sign}\bigl(a (x - t)\bigr), \qquad
   t = -\frac{b}{k}, \]

for every a > 0, per channel. The sign becomes an `RSign` with one a for all channels,
the median of |k|, so that its pseudo-gradient is about as wide as it was. Where k < 0
it is the opposite of what it was, and the kernels that read it have those input
channels negated, which needs zero or no padding and a quantizer that negates too.

At x = t the sign is +1 in either case, so before it is negated it has to be -1 there.
`threshold_of_affine` takes care of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .._larq import lq
from ..graph import (
    _graph,
    _kinds,
    _linear,
    _operation,
    _segments,
    _signs,
    _thresholds,
)
from ..quantizers import ProgressiveSign, ReSTE, RSign, SigmoidSign
from . import _rule
from ._kernel_before import linear

# The sign of an affine operation of x as a sign of x, up to the sign of its scale, if a
# call is or starts with one: of the call and the affine operation.
Spell = Callable[[_graph.Call, _rule.Affine], _operation.Operation | None]


def into_sign(
    spell: Spell,
    turn: Callable[[_graph.Call, np.ndarray], _operation.Operation],
    twice: bool = True,
) -> _rule.Rule:
    """Returns a rule that makes a threshold of an affine operation.

    Arguments:
        spell: Makes the sign; raises `NotExact` where it cannot.
        turn: Makes the operation of a call that computes the same of its input with
            some channels, (C,), negated; raises `NotExact` where it cannot.
        twice: Whether a layer after a sign layer, which takes the signs of signs, may
            take opposite ones.
    """

    @_rule.rule
    def match(graph: _graph.Graph, call: _graph.Call) -> _rule.Edit | None:
        if not _rule.is_affine(call):
            return None
        affine, reader = _rule.affine_of(call.operation), _rule.reader_of(graph, call)
        sign = spell(reader, affine)
        if sign is None:
            return None
        inside = _signs.sign_of(reader.layer) is None
        negative = affine.scale < 0
        opposite = negative if np.any(negative) else None
        if inside:
            operation = reader.operation
            if opposite is not None:
                operation = turn(reader, negative)
            operation = operation.replaced(
                arguments={"input_quantizer": sign}, opposite=opposite
            )
        else:
            origins = reader.operation.origins
            operation = sign.replaced(origins=origins, opposite=opposite)
        new = reader.reading(call.first_output, call.first_input)
        new = new._replace(operation=operation)
        changed = {call.label: [], reader.label: [new]}
        if opposite is not None and not inside:
            edge, after = reader.first_output, _graph.Value(reader.first_output)
            changed[reader.label] = [new._replace(outputs=after)]
            changed.update(_turned_readers(graph, edge, after, negative, turn, twice))
        where = f"in {reader.name!r}" if inside else f"{reader.name!r}"
        return _rule.Edit(
            graph.with_calls(changed), f"became the shift of the sign {where}"
        )

    return match


def _as_rsign(reader: _graph.Call, affine: _rule.Affine) -> _operation.Operation | None:
    quantizer = _segments.sign_in(reader)
    if not _signs.is_binary(quantizer):
        return None
    _rule.check_trains(reader, affine)
    name = reader.name if _signs.sign_of(reader.layer) is not None else "rsign"
    return _rsign(name, quantizer, affine)


def starts_with_plain_sign(call: _graph.Call) -> bool:
    """Tells whether a call is, or starts with, a sign whose threshold is 0."""
    return _is_plain(_segments.sign_in(call))


def _is_plain(quantizer: Any) -> bool:
    """Whether a quantizer is sign(x), whatever its pseudo-gradient."""
    if type(quantizer) in (RSign, ProgressiveSign):
        return quantizer.whole_shift() is None
    known = _kinds.SIGNS.get(type(quantizer)) in ("zero", "shift")
    return known and getattr(quantizer, "shift", None) is None


class Equal(NamedTuple):
    """The arguments of an `RSign`, and its shift, (C,), or None for none."""

    scale: float
    estimator: str
    shift: np.ndarray | None = None
    power: float = 1.0


def as_rsign(quantizer: Any) -> Equal | None:
    """What equals a sign, if there is a pseudo-gradient like its own.

    That of `SteSign` passes gradients between -1 and 1 of the scaled input; for another
    window the scale makes up, which also divides the gradients by it.
    """
    kind = type(quantizer)
    if kind is RSign:
        shift = quantizer.whole_shift()
        power = 1.0 if quantizer.power is None else float(quantizer.power)
        return Equal(quantizer.scale, quantizer.estimator, shift, power)
    if kind is ProgressiveSign:
        return Equal(quantizer.scale, "ste_sign", quantizer.whole_shift())
    if kind is ReSTE:
        return Equal(1.0, "reste", power=float(quantizer.power))
    if kind is SigmoidSign:
        return Equal(quantizer.slope / 3, "sigmoid_sign")
    if kind is lq.quantizers.ApproxSign:
        return Equal(1.0, "approx_sign")
    if kind is lq.quantizers.SteSign and quantizer.clip_value:
        return Equal(1 / quantizer.clip_value, "ste_sign")
    return None


def _rsign(name: str, quantizer: Any, affine: _rule.Affine) -> _operation.Operation:
    """The sign of k x + b as an `RSign` of x, up to the sign of k.

    Of the quantizer sign(s z + c), with s in the place of 1 and c in that of 0 above.
    """
    scale, bias = affine.scale, affine.bias
    equal = as_rsign(quantizer)
    if equal is None:
        raise _rule.NotExact(
            f"RSign has no estimator like that of {type(quantizer).__name__}"
        )
    own = 0.0 if equal.shift is None else equal.shift.astype(float)
    if not np.all(scale):
        raise _rule.NotExact(f"{np.sum(scale == 0)} of its {scale.size} gains are 0")
    # Of what is in half precision, it takes the sign in float32.
    double = quantizer.compute_dtype == "float64"
    dtype = np.float64 if double else np.float32
    threshold = _thresholds.threshold_of_affine(
        equal.scale * scale, equal.scale * bias + own
    )
    factor = equal.scale * float(np.median(np.abs(scale)))
    with np.errstate(over="ignore"):
        far = np.abs(factor * threshold.value) >= 1e30
    if np.any(far):
        raise _rule.NotExact("some of its gains are as good as 0")
    arguments = {
        "scale": factor,
        "estimator": equal.estimator,
        "power": equal.power,
        "dtype": quantizer.dtype_policy.name,
        "trainable": affine.trainable,
    }
    return _operation.Operation(
        name, RSign, None, arguments, {"shift": threshold.shift(factor, dtype)}
    )


def _turned_readers(
    graph: _graph.Graph,
    edge: Any,
    turned: Any,
    negative: np.ndarray,
    turn: Any,
    twice: bool,
) -> Iterator[tuple[str, list[_graph.Call]]]:
    """The calls that read an edge, as they read it with some channels negated."""
    if graph.is_output(edge):
        raise _rule.NotExact("some gains are negative, and the sign is an output")
    for call in graph.consumers(edge):
        if _rule.is_shared(graph, call):
            raise _rule.NotExact(
                f"some gains are negative, and {call.described} is shared"
            )
        new = call.reading(edge, turned)
        if _kinds.inherited(call.operation.kind).idle:
            after = _graph.Value(call.first_output)
            yield call.label, [new._replace(outputs=after)]
            last = after, negative, turn, twice
            yield from _turned_readers(graph, call.first_output, *last)
            continue
        operation = turn(call, negative)
        quantizer = getattr(call.layer, "input_quantizer", None)
        if quantizer is not None:
            if not (twice and _is_plain(quantizer)):
                raise _rule.NotExact(
                    f"some gains are negative, and {call.described} quantizes too"
                )
            before = call.operation.opposite
            opposite = negative if before is None else negative ^ before
            operation = operation.replaced(opposite=opposite)
        yield call.label, [new._replace(operation=operation)]


def _turned(call: _graph.Call, negative: np.ndarray) -> _operation.Operation:
    """The operation of a call with some input channels of its kernel negated."""
    form = linear(call, "after the sign")
    if form.border:
        raise _rule.NotExact(
            f"some gains are negative, and {call.name!r} pads with {form.border:g}"
        )
    factor = form.by_input(np.where(negative, -1.0, 1.0))
    turned = form.kernel(form.first) * factor
    if form.quantizer(form.first) is not None:
        # What is exactly 0 counts as positive, negated or not; so small is not yet 0
        # in float16.
        turned = np.where((turned == 0) & (factor < 0), -1e-7, turned)
        _check_odd(form, call, turned, factor)
    return call.operation.replaced({form.first: turned})


def _check_odd(
    form: _linear.Linear, call: _graph.Call, turned: np.ndarray, factor: np.ndarray
) -> None:
    before = _signs.quantized(call.operation, form.first)
    after = _signs.quantized(call.operation, form.first, turned)
    if not np.allclose(after, before * factor, rtol=1e-5, atol=0):
        raise _rule.NotExact(
            f"some gains are negative, and the kernel_quantizer of {call.name!r} does "
            "not negate what is negated"
        )


affine_into_sign = into_sign(_as_rsign, _turned)
