"""Moves biases per channel along the graph, to where they cost no addition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import (
    Call,
    Graph,
    Operation,
    commutation,
    is_channels_last,
    joins_channels,
    linear_of,
    sign_of,
    weights_of_sum,
)
from ...layers import ThresholdedLinearUnit
from ...layers._channel_padding import ChannelPadding
from ...layers._inference import (
    BinaryConvolution,
    PlainGroupNormalization,
    PlainRPReLU,
    ShiftedReLU,
    ShiftedSign,
)
from ...rewrites import is_affine, is_shared, rescaled
from ._reading import (
    has_real_kernel,
    merges_after,
    numbers,
    scale_and_bias,
    sign_in,
    with_sign,
)

# What makes y - t of x - s, where an operation makes y of x.
Adapt = Callable[[Call, np.ndarray, np.ndarray], Operation]


class Target(NamedTuple):
    """A shift, and the value at which a layer has nothing left to add."""

    shift: Shift
    value: np.ndarray


class Rule(NamedTuple):
    """How a call that makes y of x can be made to make y - t of x - s.

    Attributes:
        given: t, in terms of s or free to choose.
        targets: When the layer needs no addition.
        adapt: Changes the operation for s and t; None if nothing needs to.
    """

    given: Shift
    targets: Sequence[Target] = ()
    adapt: Adapt | None = None


def move_shifts(graph: Graph) -> Graph:
    """Rewrites shifts and biases so that few additions remain.

    Every edge x may be kept as x - s, s one number per channel. Convolutions make any s
    for nothing, by their bias or, where they are binary and end in a ReLU, by the
    offset right after; dense layers take any; pools and sums hand it on; signs and
    activations with shifts have one s each that leaves nothing to add. What needs no
    addition now stays so. The other wishes are then granted in the order of the
    network, where those before leave s open, so additions only ever become fewer.

    In a residual block sign - convolution - sum - RPReLU, the convolution's bias makes
    the sum ready for the RPReLU, and its last shift travels on until a sign adds it to
    its own: of four additions of constants one remains.
    """
    unknowns = Unknowns()
    shifts: dict[int, Shift] = {}
    targets: list[Target] = []
    fits: list[tuple[Call, Adapt, Shift, Shift]] = []
    for call in graph.calls:
        taken = [shifts.get(id(x)) or _zeros(x) for x in call.reads]
        rule = _rule_of(call, taken, unknowns)
        if rule.adapt is not None and is_shared(graph, call):
            rule = _fixed(call, taken)  # whose weights could not fit each use
        if rule.adapt is not None and _is_merged(graph, call):
            rule = rule._replace(targets=())
        if rule.adapt is not None:
            fits.append((call, rule.adapt, taken[0], rule.given))
        targets.extend(rule.targets)
        shifts[id(call.outputs)] = rule.given
        if graph.is_output(call.outputs):
            targets.append(Target(rule.given, np.zeros(())))
    for target in sorted(targets, key=lambda target: bool(np.any(target.value))):
        unknowns.solve(target.shift, target.value)
    for call, adapt, before, after in fits:
        operation = adapt(call, unknowns.value(before), unknowns.value(after))
        graph = graph.with_operation(operation)
    moved = [
        call.outputs
        for call in graph.calls
        if not tf.nest.is_nested(call.outputs)
        # Of an output, s is 0 but for rounding.
        and not graph.is_output(call.outputs)
        and np.any(unknowns.value(shifts[id(call.outputs)]))
    ]
    return graph.renewed(moved)


def _is_merged(graph: Graph, call: Call) -> bool:
    """Whether the converter makes any bias of an affine operation a convolution's."""
    source = graph.producer(call.first_input)
    if source is None or not is_affine(call):
        return False
    return graph.sole_consumer(call.first_input) is call and merges_after(source)


def _rule_of(call: Call, taken: list[Shift], unknowns: Unknowns) -> Rule:
    """The rule of a call of which each input is kept as x - s, s as in `taken`."""
    if tf.nest.is_nested(call.outputs):  # several
        return _fixed(call, taken)
    if len(taken) > 1:
        return _joining(call, taken, unknowns) or _fixed(call, taken)
    shift, kind = taken[0], call.operation.kind
    if commutation(call).shift:
        times = call.first_output.shape[-1] // call.first_input.shape[-1]
        return Rule(shift * times)
    if kind is ChannelPadding:
        layer = call.layer
        before, after = (constant(np.zeros(n)) for n in (layer.before, layer.after))
        return Rule(before + shift + after)
    if kind is ThresholdedLinearUnit:
        return Rule(shift, adapt=_fit_threshold)
    sign = sign_in(call)
    if sign is not None and sign.kind is ShiftedSign and sign_of(call.layer):
        return Rule(_zeros(call.outputs), [_at_sign(call, shift)], _fit_sign)
    if is_affine(call):
        return _affine(call, shift, unknowns)
    finder = _real_kernel if has_real_kernel(call) else _FINDERS.get(kind)
    return finder(call, shift, unknowns) if finder else _fixed(call, taken)


def _fixed(call: Call, taken: Sequence[Shift]) -> Rule:
    """Of a call that is not known here: s and t are 0."""
    targets = [Target(shift, np.zeros(())) for shift in taken]
    return Rule(_zeros(call.first_output), targets)


def _zeros(edge: Any) -> Shift:
    """The shift of an edge that stays as it is."""
    return constant(np.zeros(_channels(edge)))


def _channels(edge: Any) -> int:
    # An edge without axes, or of an open one, is never anything but fixed.
    return (edge.shape[-1] if edge.shape.rank else 1) or 1


def _joining(call: Call, taken: list[Shift], unknowns: Unknowns) -> Rule | None:
    if joins_channels(call):
        return Rule(sum(taken, ()))
    weights = weights_of_sum(call)
    channels = {edge.shape[-1] for edge in call.reads}
    if weights is None or len(channels) > 1:
        return None
    rows = np.broadcast_to(weights[:, None], (len(taken), *channels))
    return Rule(unknowns.weighted_sum(taken, rows))


def _relu(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    # Its addition and it are one operation.
    return Rule(_zeros(call.outputs), adapt=_fit_relu)


def _rprelu(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    channels = _channels(call.first_input)
    given = unknowns.new(channels)
    targets = [
        Target(taken, -numbers(call.operation, "shift_in", channels)),
        Target(given, numbers(call.operation, "shift_out", channels)),
    ]
    return Rule(given, targets, _fit_rprelu)


def _affine(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    channels = _channels(call.first_input)
    scale, bias = scale_and_bias(call)
    through = unknowns.weighted_sum([taken], scale[None])
    if not np.any(bias):
        return Rule(through)
    given = unknowns.new(channels)
    rows = np.stack([np.ones(channels), -np.ones(channels)])
    kept = unknowns.weighted_sum([given, through], rows)
    return Rule(given, [Target(kept, bias)], _fit_affine)


def _group_norm(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    channels = _channels(call.first_input)
    given = unknowns.new(channels)
    targets = [
        Target(taken, np.zeros(())),
        Target(given, numbers(call.operation, "beta", channels)),
    ]
    return Rule(given, targets, _fit_group_norm)


def _binary_convolution(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    targets = [_at_sign(call, taken)]
    if call.operation.argument("last") is not keras.activations.linear:
        return Rule(_zeros(call.outputs), targets, _fit_binary_convolution)
    return Rule(unknowns.new(_channels(call.outputs)), targets, _fit_binary_convolution)


def _real_kernel(call: Call, taken: Shift, unknowns: Unknowns) -> Rule:
    layer, operation = call.layer, call.operation
    if not is_channels_last(layer):
        return _fixed(call, [taken])
    inside = operation.argument("input_quantizer")
    # At a border that is padded, less than all of the kernel meets the shift.
    size = getattr(layer, "kernel_size", (1,))
    whole = getattr(layer, "padding", "valid") == "valid" or set(size) == {1}
    grouped = getattr(layer, "groups", 1) > 1
    free = inside is None and whole and not grouped
    targets = [] if free else [_at_sign(call, taken)]
    if layer.activation is not keras.activations.linear:
        given = _zeros(call.outputs)
    else:
        given = unknowns.new(_channels(call.outputs))
    return Rule(given, targets, _fit_kernel)


def _at_sign(call: Call, taken: Shift) -> Target:
    sign = sign_in(call)
    if sign is None or sign.kind is not ShiftedSign:
        return Target(taken, np.zeros(()))
    return Target(taken, -numbers(sign, "shift", _channels(call.first_input)))


_FINDERS: dict[type, Callable[[Call, Shift, Unknowns], Rule]] = {
    ShiftedReLU: _relu,
    PlainRPReLU: _rprelu,
    PlainGroupNormalization: _group_norm,
    BinaryConvolution: _binary_convolution,
}


def _fit_sign(call: Call, taken: np.ndarray, given: np.ndarray) -> Operation:
    """With t = 0: sign(x + b) = sign(x - s + b + s)."""
    sign = sign_in(call)
    if sign is None or sign.kind is not ShiftedSign or not np.any(taken):
        return call.operation  # the least shift counts, that makes -1 of the sign of 0
    shift = _sum(numbers(sign, "shift", len(taken)), taken)
    return with_sign(call, sign.replaced(arguments={"shift": shift}))


def _added(operation: Operation, name: str, *more: np.ndarray) -> Operation:
    total = _sum(numbers(operation, name, len(more[0])), *more)
    return operation.replaced(arguments={name: total})


def _fit_relu(call: Call, taken: np.ndarray, given: np.ndarray) -> Operation:
    return _added(call.operation, "shift", taken)


def _fit_rprelu(call: Call, taken: np.ndarray, given: np.ndarray) -> Operation:
    return _added(_added(call.operation, "shift_in", taken), "shift_out", -given)


def _fit_threshold(call: Call, taken: np.ndarray, given: np.ndarray) -> Operation:
    """With t = s, since max(x - s, τ - s) = max(x, τ) - s."""
    return call.operation.replaced({"tau": call.operation.arrays["tau"] - taken})


def _fit_affine(call: Call, taken: np.ndarray, given: np.ndarray) -> Operation:
    """scale (x - s) + bias + scale s - t."""
    scale, bias = scale_and_bias(call)
    return rescaled(call.operation, scale, _sum(bias, scale * taken, -given))


def _fit_group_norm(call: Call, taken: np.ndarray, given: np.ndarray) -> Operation:
    """With s = 0, since the statistics are those of x."""
    return _added(call.operation, "beta", -given)


def _fit_binary_convolution(
    call: Call, taken: np.ndarray, given: np.ndarray
) -> Operation:
    return _added(_fit_sign(call, taken, given), "offset", -given)


def _fit_kernel(call: Call, taken: np.ndarray, given: np.ndarray) -> Operation:
    """The bias takes what the kernel makes of s, and t; s ends at a sign before it."""
    operation = _fit_sign(call, taken, given)
    if operation is not call.operation:
        taken = np.zeros_like(taken)
    form = linear_of(operation)
    assert form is not None
    added = (form.response(taken) if np.any(taken) else 0.0) - given
    if not np.any(added):
        return operation
    total = added if form.bias is None else form.bias + added
    return operation.replaced({"bias": total}, {"use_bias": True})


def _sum(*parts: np.ndarray) -> np.ndarray:
    """A sum; 0 where it is no more than rounding."""
    first, *others = parts
    total = np.sum(parts, axis=0)
    close = is_close(first, -np.sum(others, axis=0))
    return np.zeros_like(total) if close else total


class Form(NamedTuple):
    """`constant` plus multiples of unknown shifts, for the channels of one stretch.

    Each channel is an equation of its own: a multiple may be 0 in some of them.
    """

    constant: np.ndarray
    terms: Mapping[int, np.ndarray]

    def plus(self, other: Form, weight: np.ndarray) -> Form:
        """This form plus `weight` times another."""
        terms = dict(self.terms)
        for unknown, times in other.terms.items():
            terms[unknown] = _total(terms.get(unknown, 0.0), weight * times)
        constant = self.constant + weight * other.constant
        return Form(constant, {u: t for u, t in terms.items() if np.any(t)})

    def where(self, channels: np.ndarray) -> Form:
        """The same in some channels, and 0 in the others."""
        terms = {u: np.where(channels, t, 0.0) for u, t in self.terms.items()}
        return Form(np.where(channels, self.constant, 0.0), terms)

    def open(self) -> np.ndarray:
        """The channels whose value is not settled."""
        found = np.zeros(len(self.constant), bool)
        for times in self.terms.values():
            found |= times != 0
        return found


# By how much a shift may stand out from those of the other channels.
_LARGER = 256.0

# A shift of all channels of a tensor: stretches of them, as concatenation joins them.
Shift = tuple[Form, ...]


def constant(values: np.ndarray) -> Shift:
    """The shift of known values, one per channel."""
    return (Form(np.asarray(values, np.float64), {}),)


class Unknowns:
    """Shifts that may be chosen, until some condition settles them channel by channel.

    As long as every value wanted is 0, all that is wanted can be had: 0 is a solution.
    """

    def __init__(self) -> None:
        # Of each unknown the channels that are settled, and what they are.
        self._solved: list[np.ndarray] = []
        self._solutions: list[Form] = []

    def new(self, channels: int) -> Shift:
        """A shift of which nothing is settled."""
        self._solved.append(np.zeros(channels, bool))
        self._solutions.append(Form(np.zeros(channels), {}))
        one = np.ones(channels)
        return (Form(np.zeros(channels), {len(self._solutions) - 1: one}),)

    def solve(self, shift: Shift, wanted: np.ndarray) -> None:
        """Makes a shift what is wanted, if what is settled leaves that open.

        All channels or none: an addition goes only if every one is right.
        """
        parts = _cut(wanted, _widths(shift))
        pairs = list(zip(shift, parts, strict=True))
        if not all(_can_be(self._reduced(form), values) for form, values in pairs):
            return
        for form, values in pairs:
            left = self._reduced(form)
            for unknown, channels in _chosen(left).items():
                times = np.where(channels, left.terms[unknown], 1.0)
                others = {u: t for u, t in left.terms.items() if u != unknown}
                rest = Form(left.constant, others)
                solution = Form(values / times, {}).plus(rest, -1 / times)
                known = self._solutions[unknown]
                self._solutions[unknown] = known.plus(
                    solution.where(channels), np.ones(())
                )
                self._solved[unknown] = self._solved[unknown] | channels

    def value(self, shift: Shift) -> np.ndarray:
        """The values of a shift; what is open in the end may as well be 0."""
        return np.concatenate([self._reduced(form).constant for form in shift])

    def weighted_sum(self, shifts: Sequence[Shift], weights: np.ndarray) -> Shift:
        """The sum of shifts, each times its row of `weights`, (shifts, channels)."""
        if len({_widths(shift) for shift in shifts}) > 1:
            shifts = self._aligned(shifts)
        total = [Form(np.zeros(width), {}) for width in _widths(shifts[0])]
        for shift, row in zip(shifts, weights, strict=True):
            parts = _cut(row, _widths(shift))
            total = [
                before.plus(form, times)
                for before, form, times in zip(total, shift, parts, strict=True)
            ]
        return tuple(total)

    def _aligned(self, shifts: Sequence[Shift]) -> list[Shift]:
        """Cuts all shifts where any is cut; an open stretch is closed by that."""
        ends = sorted({end for shift in shifts for end in accumulate(_widths(shift))})
        found = []
        for shift in shifts:
            forms: list[Form] = []
            start = 0
            for form in shift:
                stop = start + len(form.constant)
                inside = [end - start for end in ends if start < end < stop]
                if inside:
                    self.solve((form,), self.value((form,)))
                    parts = np.split(self.value((form,)), inside)
                    forms.extend(constant(part)[0] for part in parts)
                else:
                    forms.append(form)
                start = stop
            found.append(tuple(forms))
        return found

    def _reduced(self, form: Form) -> Form:
        """The same form in terms of what is open only."""
        while True:
            known = {
                unknown: np.where(self._solved[unknown], times, 0.0)
                for unknown, times in form.terms.items()
            }
            known = {unknown: times for unknown, times in known.items() if times.any()}
            if not known:
                return form
            rest = {u: t - known.get(u, 0.0) for u, t in form.terms.items()}
            reduced = Form(form.constant, {u: t for u, t in rest.items() if t.any()})
            for unknown, times in known.items():
                reduced = reduced.plus(self._solutions[unknown], times)
            form = reduced


def is_close(shift: np.ndarray, other: np.ndarray) -> bool:
    """Whether two shifts differ by less than float32 can tell."""
    return bool(np.all(_close(shift, other)))


def _close(shift: np.ndarray, other: np.ndarray) -> np.ndarray:
    size = max(np.abs(shift).max(initial=0.0), np.abs(other).max(initial=0.0))
    return np.abs(shift - other) <= 1e-7 * size + 1e-12


def _can_be(left: Form, values: np.ndarray) -> bool:
    """Whether a form can get some values, in every channel, without drowning a map.

    After a gain that is as good as 0 the shift would be so large that float32 had no
    digits left for the map, which others read as well.
    """
    if not np.all(left.open() | _close(left.constant, values)):
        return False
    sizes = np.zeros(len(left.constant))
    for unknown, channels in _chosen(left).items():
        times = np.where(channels, left.terms[unknown], 1.0)
        sizes += np.where(channels, np.abs((values - left.constant) / times), 0.0)
    return bool(sizes.max(initial=0.0) <= _LARGER * (1 + np.median(sizes)))


def _chosen(form: Form) -> dict[int, np.ndarray]:
    """The unknowns that give way, and in which channels.

    It is the newest, which stands nearest to where a value is wanted, of those that
    need not change by far more than another would.
    """
    taken = ~form.open()
    largest = np.max([np.zeros(len(taken)), *map(np.abs, form.terms.values())], axis=0)
    found = {}
    for unknown in sorted(form.terms, reverse=True):
        times = np.abs(form.terms[unknown])
        channels = ~taken & (times * _LARGER >= largest)
        if channels.any():
            found[unknown] = channels
        taken |= channels
    return found


def _total(first: np.ndarray | float, second: np.ndarray) -> np.ndarray:
    """A sum; of what cancels, nothing but rounding would be left."""
    total = np.asarray(first + second)
    size = np.maximum(np.abs(first), np.abs(second))
    return np.where(np.abs(total) <= 1e-12 * size, 0.0, total)


def _widths(shift: Shift) -> tuple[int, ...]:
    return tuple(len(form.constant) for form in shift)


def _cut(values: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    whole = np.broadcast_to(values, (sum(widths),))
    return np.split(whole, list(accumulate(widths))[:-1])
