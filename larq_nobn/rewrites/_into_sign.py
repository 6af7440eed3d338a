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
    negate: Callable[[_graph.Call, np.ndarray], _operation.Operation],
    twice: bool = True,
) -> _rule.GraphRule:
    """Returns a rule that makes a threshold of an affine operation.

    Arguments:
        spell: Makes the sign; raises `NotExact` where it cannot.
        negate: Makes the operation of a call that computes what the call does, of its
            input with some channels, (C,), negated; raises `NotExact` where it cannot.
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
        inside = _signs.sign_of_layer(reader.layer) is None
        negative = affine.scale < 0
        opposite = negative if np.any(negative) else None
        if inside:
            operation = reader.operation
            if opposite is not None:
                operation = negate(reader, negative)
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
            edge, after = reader.first_output, _graph.NewEdge(reader.first_output)
            changed[reader.label] = [new._replace(outputs=after)]
            changed.update(
                _negated_readers(graph, edge, after, negative, negate, twice)
            )
        where = f"in {reader.name!r}" if inside else f"{reader.name!r}"
        return _rule.Edit(
            graph.with_calls(changed), f"became the shift of the sign {where}"
        )

    return match


def _as_rsign(reader: _graph.Call, affine: _rule.Affine) -> _operation.Operation | None:
    quantizer = _signs.sign_of_call(reader)
    if not _signs.is_binary(quantizer):
        return None
    _rule.check_trains(reader, affine)
    name = reader.name if _signs.sign_of_layer(reader.layer) is not None else "rsign"
    return _rsign(name, quantizer, affine)


def _is_plain(quantizer: Any) -> bool:
    """Whether a quantizer is sign(x), whatever its pseudo-gradient."""
    if type(quantizer) in (RSign, ProgressiveSign):
        return quantizer.whole_shift() is None
    known = _kinds.SIGNS.get(type(quantizer)) in ("zero", "shift")
    return known and getattr(quantizer, "shift", None) is None


class RSignArguments(NamedTuple):
    """The arguments of an `RSign`, and its shift, (C,), or None for none."""

    scale: float
    estimator: str
    shift: np.ndarray | None = None
    power: float = 1.0


def as_rsign(quantizer: Any) -> RSignArguments | None:
    """Returns the arguments of an `RSign` equal to a sign; None if there is none.

    `SteSign` passes gradients between -1 and 1 of the scaled input; for another window
    the scale makes up, which also divides the gradients by it.
    """
    kind = type(quantizer)
    if kind is RSign:
        shift = quantizer.whole_shift()
        power = 1.0 if quantizer.power is None else float(quantizer.power)
        return RSignArguments(quantizer.scale, quantizer.estimator, shift, power)
    if kind is ProgressiveSign:
        return RSignArguments(quantizer.scale, "ste_sign", quantizer.whole_shift())
    if kind is ReSTE:
        return RSignArguments(1.0, "reste", power=float(quantizer.power))
    if kind is SigmoidSign:
        return RSignArguments(quantizer.slope / 3, "sigmoid_sign")
    if kind is lq.quantizers.ApproxSign:
        return RSignArguments(1.0, "approx_sign")
    if kind is lq.quantizers.SteSign and quantizer.clip_value:
        return RSignArguments(1 / quantizer.clip_value, "ste_sign")
    return None


def _rsign(name: str, quantizer: Any, affine: _rule.Affine) -> _operation.Operation:
    """Returns the sign of k x + b as an `RSign` of x, up to the sign of k.

    For the quantizer sign(s z + c), s stands for 1 and c for 0 in the formula above.
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
    # RSign takes the sign of half precision in float32.
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


def _negated_readers(
    graph: _graph.Graph,
    edge: Any,
    after: Any,
    negative: np.ndarray,
    negate: Any,
    twice: bool,
) -> Iterator[tuple[str, list[_graph.Call]]]:
    """Yields the calls that read an edge, for an edge with some channels negated."""
    if graph.is_output(edge):
        raise _rule.NotExact("some gains are negative, and the sign is an output")
    for call in graph.consumers(edge):
        if _rule.is_shared(graph, call):
            raise _rule.NotExact(
                f"some gains are negative, and {call.described} is shared"
            )
        new = call.reading(edge, after)
        if _kinds.inherited(call.operation.kind).idle:
            next_edge = _graph.NewEdge(call.first_output)
            yield call.label, [new._replace(outputs=next_edge)]
            further = next_edge, negative, negate, twice
            yield from _negated_readers(graph, call.first_output, *further)
            continue
        operation = negate(call, negative)
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


def _with_negated_inputs(
    call: _graph.Call, negative: np.ndarray
) -> _operation.Operation:
    """Returns an operation whose kernel has some input channels negated."""
    form = linear(call, "after the sign")
    if form.border:
        raise _rule.NotExact(
            f"some gains are negative, and {call.name!r} pads with {form.border:g}"
        )
    factor = form.by_input(np.where(negative, -1.0, 1.0))
    kernel = form.kernel(form.first) * factor
    if form.quantizer(form.first) is not None:
        # What is exactly 0 counts as positive, negated or not; so small is not yet 0
        # in float16.
        kernel = np.where((kernel == 0) & (factor < 0), -1e-7, kernel)
        _check_odd(form, call, kernel, factor)
    return call.operation.replaced({form.first: kernel})


def _check_odd(
    form: _linear.Linear, call: _graph.Call, kernel: np.ndarray, factor: np.ndarray
) -> None:
    before = _signs.quantized(call.operation, form.first)
    after = _signs.quantized(call.operation, form.first, kernel)
    if not np.allclose(after, before * factor, rtol=1e-5, atol=0):
        raise _rule.NotExact(
            f"some gains are negative, and the kernel_quantizer of {call.name!r} does "
            "not negate what is negated"
        )


affine_into_sign = into_sign(_as_rsign, _with_negated_inputs)
