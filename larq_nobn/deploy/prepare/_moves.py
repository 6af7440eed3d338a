"""Moves factors and biases along the graph, to where they cost no operation.

Every edge x may be kept as (x - s) / f, with one positive number f and one number s per
channel. `_rescaled_call` says what each kind of layer then computes. Factors have to
agree wherever edges meet; of shifts, as few as possible are added in the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import _graph, _kinds, _linear, _operation, _probe, _signs
from ...layers import ThresholdedLinearUnit, _inference
from ...layers._channel_padding import ChannelPadding
from ...rewrites._rule import affine_of, is_affine, is_shared, rescaled
from . import _reading

# Far inside float32, so that no threshold divided by a factor leaves it.
LARGEST = 2.0**40
_LINEAR, _RELU = keras.activations.linear, keras.activations.relu
# What kinds add per channel: to what they read, and to what they make of it.
_ADDED = {
    _inference.ShiftedSign: ("shift", ""),
    _inference.ShiftedReLU: ("shift", ""),
    _inference.PlainRPReLU: ("shift_in", "shift_out"),
    _inference.PlainGroupNormalization: ("", "beta"),
    _inference.BinaryConvolution: ("", "offset"),
}


class _Rescaling(NamedTuple):
    """Edges x before and y after a call, kept as (x - shift) / factor likewise."""

    input_shift: Any = 0.0
    output_shift: Any = 0.0
    input_factor: float = 1.0
    output_factor: float = 1.0


def _rescaled_call(call: _graph.Call, by: _Rescaling) -> _operation.Operation:
    """Returns what a call computes between rescaled edges.

    The rules see to it that this can be: the input of a group norm has no shift, and a
    ReLU has one factor.
    """
    operation, inside = call.operation, _reading.sign_operation(call)
    if is_affine(call):
        scale, bias, *_ = affine_of(operation)
        if np.ndim(by.input_shift):  # else a single number stays one
            scale, bias = _reading.scale_and_bias(call)
        total = _sum(bias, scale * by.input_shift, -by.output_shift) / by.output_factor
        return rescaled(operation, scale * (by.input_factor / by.output_factor), total)
    if operation.kind is ThresholdedLinearUnit:
        tau = (operation.arrays["tau"] - by.input_shift) / by.input_factor
        return operation.replaced({"tau": tau})
    if inside is not None:
        # The least shift counts, that makes -1 of the sign of 0.
        if shift := _added(inside, by):
            operation = _reading.with_sign(call, inside.replaced(arguments=shift))
        by = by._replace(input_shift=0.0, input_factor=1.0)
    if _reading.has_real_kernel(call):
        return _rescaled_kernel(operation, by)
    if operation.kind is _inference.BinaryConvolution and by.output_factor != 1:
        # The kernel stays ±1.
        scale = _reading.numbers(operation, "scale", call.first_output.shape[-1], 1.0)
        operation = operation.replaced(arguments={"scale": scale / by.output_factor})
    return operation.replaced(arguments=_added(operation, by))


def _rescaled_kernel(
    operation: _operation.Operation, by: _Rescaling
) -> _operation.Operation:
    name = "kernel" if "kernel" in operation.arrays else "depthwise_kernel"
    bias = operation.arrays["bias"] if operation.argument("use_bias") else None
    added, values = -by.output_shift, {}
    if np.any(by.input_shift):
        form = _linear.linear_of(operation)
        assert form is not None
        added = form.response(by.input_shift) - by.output_shift
    if np.any(added):
        bias = added if bias is None else bias.astype(np.float64) + added
    if by.input_factor != by.output_factor:
        values[name] = operation.arrays[name] * (by.input_factor / by.output_factor)
    if bias is not None:
        values["bias"] = bias / by.output_factor
    return operation.replaced(values, {"use_bias": True} if np.any(added) else {})


def _added(operation: _operation.Operation, by: _Rescaling) -> dict[str, Any]:
    """Returns the arguments that an operation adds, where they change."""
    changes = (
        (by.input_shift, by.input_factor),
        (-by.output_shift, by.output_factor),
    )
    arguments = {}
    for name, (more, over) in zip(
        _ADDED.get(operation.kind, ()), changes, strict=False
    ):
        value = operation.argument(name) if name else None
        if name and (np.any(more) or (value is not None and over != 1)):
            value = np.zeros(()) if value is None else np.asarray(value, np.float64)
            arguments[name] = _sum(value, more) / over
    return arguments


def _sum(*parts: Any) -> np.ndarray:
    """Returns a sum; 0 where it is no more than rounding."""
    if not any(map(np.any, parts[1:])):
        return np.asarray(parts[0])
    first, *others = np.broadcast_arrays(*parts)
    total = np.sum([first, *others], axis=0)
    close = is_close(first, -np.sum(others, axis=0))
    return np.zeros_like(total) if close else total


# --- factors


class Factor(NamedTuple):
    """`ratio` times an unknown positive number."""

    unknown: int
    ratio: float

    def times(self, ratio: float) -> Factor:
        return Factor(self.unknown, self.ratio * ratio)


ONE = Factor(0, 1.0)


class Ratios:
    """Positive numbers of which only ratios are known; the first is 1."""

    def __init__(self) -> None:
        # Each as a multiple of another, or of itself while nothing is known of it.
        self._links = [ONE]

    def new(self) -> Factor:
        """Returns a number of which nothing is known."""
        self._links.append(Factor(len(self._links), 1.0))
        return self._links[-1]

    def agree(self, first: Factor, second: Factor) -> bool:
        """Makes two factors equal; False if what is known says that they are not."""
        older, newer = sorted((self._root(first), self._root(second)))
        if older.unknown == newer.unknown:
            return math.isclose(older.ratio, newer.ratio)
        self._links[newer.unknown] = older.times(1 / newer.ratio)
        return True

    def value(self, factor: Factor) -> float:
        """A number that fits: what stays unknown in the end may as well be 1."""
        return self._root(factor).ratio

    def _root(self, factor: Factor) -> Factor:
        while (link := self._links[factor.unknown]).unknown != factor.unknown:
            factor = link.times(factor.ratio)
        return factor


class FactorRule(NamedTuple):
    """Which f and g allow a call to make y / g of x / f, where it makes y of x.

    Attributes:
        takes: Whether f may be any positive number; if not, it is 1.
        gives: Whether g may be, whatever f is; if not, it is 1.
        passes: Whether g is f, that of all inputs.
        fits: Whether the operation changes with f and g.
    """

    takes: bool = False
    gives: bool = False
    passes: bool = False
    fits: bool = True


def absorb_factors(graph: _graph.Graph) -> _graph.Graph:
    """Drops every multiplication by a positive number that other layers can hold.

    Convolutions and affine operations can turn any f of their input into any f of their
    output, by their weights; a sign forgets it; pools, sums and ReLUs hand it on. A
    multiplication is dropped if all factors then agree wherever edges meet, and are 1
    at the output. One that stays contains the factors of those before it.
    """
    scales = {c.name: s for c in graph.calls if (s := positive_scale(c)) is not None}
    rules = {call.name: _factor_rule(call, graph) for call in graph.calls}
    # Products written as such first and from the end, since those that stay let nothing
    # pass. A layer that stays does, and is best one of the smaller maps after.
    products = [name for name in scales if not rules[name].takes]
    layers = [name for name in scales if rules[name].takes]
    dropped: dict[str, float] = {}
    edges: dict[int, float] = {}
    fits: dict[str, tuple[float, float]] = {}
    for name in (*reversed(products), *layers):
        tried = {**dropped, name: scales[name]}
        solution = _solve(graph, rules, tried)
        if solution is not None:
            dropped, (edges, fits) = tried, solution
    if not dropped:
        return graph
    for name, (f, g) in fits.items():
        if (f, g) != (1, 1):
            by = _Rescaling(input_factor=f, output_factor=g)
            operation = _rescaled_call(graph.uses(name)[0], by)
            graph = graph.with_operation(operation)
    gone = [call for call in graph.calls if call.name in dropped]
    kept = {id(x) for call in gone for x in tf.nest.flatten(call.outputs)}
    made = [x for call in graph.calls for x in tf.nest.flatten(call.outputs)]
    for label in (call.label for call in gone):
        call = graph.call(label)
        graph = graph.with_edge(call.first_output, call.first_input)
    changed = [x for x in made if edges[id(x)] != 1 and id(x) not in kept]
    return graph.with_calls({call.label: () for call in gone}).renewed(changed)


def _solve(
    graph: _graph.Graph, rules: Mapping[str, FactorRule], dropped: Mapping[str, float]
) -> tuple[dict[int, float], dict[str, tuple[float, float]]] | None:
    """Returns the factor of every edge, by its id, and what each layer takes and gives.

    None if there are none that fit.
    """
    ratios = Ratios()
    edges: dict[int, Factor] = {}
    layers: dict[str, tuple[Factor, Factor]] = {}
    pairs: list[tuple[Factor, Factor]] = []  # what has to be equal
    for call in graph.calls:
        rule = rules[call.name]
        taken = [edges.get(id(x), ONE) for x in call.reads]
        if call.name in dropped:
            given = taken[0].times(dropped[call.name])
        else:
            if not rule.takes:
                pairs.extend((ONE, factor) for factor in taken)
            if rule.passes:
                pairs.extend((taken[0], factor) for factor in taken[1:])
                given = taken[0]
            else:
                given = ratios.new() if rule.gives else ONE
            if rule.fits:
                # The weights of a layer that is used again are the same.
                first = layers.setdefault(call.name, (taken[0], given))
                pairs.extend(zip(first, (taken[0], given), strict=True))
        for edge in tf.nest.flatten(call.outputs):
            edges[id(edge)] = given
            if graph.is_output(edge):
                pairs.append((ONE, given))
    if not all(ratios.agree(*pair) for pair in pairs):
        return None
    fits = {name: (ratios.value(f), ratios.value(g)) for name, (f, g) in layers.items()}
    sizes = (abs(math.log2(factor)) for pair in fits.values() for factor in pair)
    if max(sizes, default=0.0) > math.log2(LARGEST):
        return None
    return {key: ratios.value(x) for key, x in edges.items()}, fits


def _factor_rule(call: _graph.Call, graph: _graph.Graph) -> FactorRule:
    """Returns the rule for a call; of one that is not known here, f and g are 1."""
    kind, sign = call.operation.kind, _reading.sign_operation(call)
    if _kinds.commutation(call).factor:
        return FactorRule(takes=True, passes=True, fits=False)
    if kind in (_inference.PlainRPReLU, ThresholdedLinearUnit):
        return FactorRule(takes=True, passes=True)
    if is_affine(call):
        return FactorRule(takes=True, gives=True)
    if sign is not None and _signs.sign_of_layer(call.layer) is not None:
        return FactorRule(takes=True)
    if kind is _inference.BinaryConvolution:
        gives = call.operation.argument("last") in (_LINEAR, _RELU)
        channels = call.first_output.shape[-1]
        scale = _reading.numbers(call.operation, "scale", channels, 1.0)
        if np.all(scale == 1) and not np.any(call.operation.argument("offset")):
            # LCE fuses a ReLU with integers only; a scale would make it an operation.
            readers = graph.consumers(call.first_output)
            gives &= not any(
                _probe.bounds_of(reader) == _kinds.RECTIFIED for reader in readers
            )
        return FactorRule(sign is not None, gives)
    if not _reading.has_real_kernel(call):
        return FactorRule(fits=False)
    takes = not _linear.border_of(call.operation)
    if call.operation.argument("input_quantizer") is not None:
        takes = sign is not None
    return FactorRule(takes, call.layer.activation in (_LINEAR, _RELU))


def positive_scale(call: _graph.Call) -> float | None:
    """The positive number by which a call multiplies, if it does nothing else."""
    edges = [*call.reads, *tf.nest.flatten(call.outputs)]
    if is_affine(call):
        scale, bias, *_ = affine_of(call.operation)
        scales = [scale] if not np.any(bias) else []
    elif _kinds.symbol_of(call.layer) == "math.multiply":
        scales = _kinds.constants_of(call)
    else:
        return None
    if len(scales) != 1 or any(edge.dtype != tf.float32 for edge in edges):
        return None
    scale = np.asarray(scales[0], np.float64)
    inside = scale.ndim == 0 and 0 < scale <= LARGEST
    return float(scale) if inside else None


# --- shifts


class Shift(NamedTuple):
    """`constant` plus multiples of unknown shifts, (C,) each.

    Each channel is an equation of its own: a multiple may be 0 in some of them.

    Attributes:
        constant: What is known.
        terms: The multiples, by the number of the unknown and the channel at which its
            first channel stands.
    """

    constant: np.ndarray
    terms: Mapping[tuple[int, int], np.ndarray]

    def plus(self, other: Shift, weight: Any = 1.0) -> Shift:
        """This shift plus `weight` times another."""
        terms = dict(self.terms)
        for key, times in other.terms.items():
            terms[key] = _total(terms.get(key, 0.0), weight * times)
        total = self.constant + weight * other.constant
        return Shift(total, {key: x for key, x in terms.items() if np.any(x)})

    def where(self, channels: np.ndarray) -> Shift:
        """Returns the shift in some channels, and 0 in the others."""
        terms = {key: np.where(channels, x, 0.0) for key, x in self.terms.items()}
        return Shift(np.where(channels, self.constant, 0.0), terms)

    def placed(self, start: int, width: int) -> Shift:
        """Returns the shift on another map, where its first channel is at `start`."""
        terms = {
            (unknown, at + start): _placed(times, start, width)
            for (unknown, at), times in self.terms.items()
        }
        return Shift(_placed(self.constant, start, width), terms)

    def open(self) -> np.ndarray:
        """Returns the channels whose value is not settled."""
        is_open = np.zeros(len(self.constant), bool)
        for times in self.terms.values():
            is_open |= times != 0
        return is_open


def constant(values: Any) -> Shift:
    """Returns the shift of known values, one per channel."""
    return Shift(np.asarray(values, np.float64), {})


def joined(shifts: Sequence[Shift]) -> Shift:
    """Returns the shift of the channels of some maps in a row."""
    ends = np.cumsum([len(shift.constant) for shift in shifts]).tolist()
    parts = (
        shift.placed(end - len(shift.constant), ends[-1])
        for shift, end in zip(shifts, ends, strict=True)
    )
    return weighted_sum(list(parts), [1.0] * len(ends))


def weighted_sum(shifts: Sequence[Shift], weights: Iterable[Any]) -> Shift:
    """Returns the sum of shifts, each times its weight, a number or (C,)."""
    total = constant(np.zeros(len(shifts[0].constant)))
    for shift, weight in zip(shifts, weights, strict=True):
        total = total.plus(shift, weight)
    return total


def _placed(values: np.ndarray, start: int, width: int) -> np.ndarray:
    placed = np.zeros(width, values.dtype)
    first, last = max(start, 0), min(start + len(values), width)
    if first < last:
        placed[first:last] = values[first - start : last - start]
    return placed


def _total(first: np.ndarray | float, second: np.ndarray) -> np.ndarray:
    """Returns a sum; 0 where both cancel but for rounding."""
    total = np.asarray(first + second)
    size = np.maximum(np.abs(first), np.abs(second))
    return np.where(np.abs(total) <= 1e-12 * size, 0.0, total)


# By how much a shift may stand out from those of the other channels.
_LARGER = 256.0


class Unknowns:
    """Shifts that may be chosen, until some condition settles them channel by channel.

    As long as every value wanted is 0, all that is wanted can be had: 0 is a solution.
    """

    def __init__(self) -> None:
        # Of each unknown the channels that are settled, and what they are.
        self._solved: list[np.ndarray] = []
        self._solutions: list[Shift] = []

    def new(self, channels: int) -> Shift:
        """Returns a shift of which nothing is settled."""
        self._solved.append(np.zeros(channels, bool))
        self._solutions.append(constant(np.zeros(channels)))
        key = len(self._solutions) - 1, 0
        return Shift(np.zeros(channels), {key: np.ones(channels)})

    def solve(self, shift: Shift, wanted: Any) -> None:
        """Makes a shift what is wanted, if what is settled leaves that open.

        All channels or none: an addition goes only if every one is right.
        """
        left = self._reduced(shift)
        wanted = np.broadcast_to(wanted, left.constant.shape)
        if not self._can_be(left, wanted):
            return
        while chosen := _chosen(left):
            (unknown, start), channels = next(iter(chosen.items()))
            own = left.terms[unknown, start]
            times = np.where(channels, own, 1.0)
            rest = left.plus(Shift(np.zeros(()), {(unknown, start): -own}))
            solution = constant(wanted / times).plus(rest, -1 / times).where(channels)
            known, width = self._solutions[unknown], len(self._solved[unknown])
            self._solutions[unknown] = known.plus(solution.placed(-start, width))
            self._solved[unknown] |= _placed(channels, -start, width)
            left = self._reduced(shift)

    def value(self, shift: Shift) -> np.ndarray:
        """Returns the values of a shift; what is open in the end may as well be 0."""
        return self._reduced(shift).constant

    def _can_be(self, left: Shift, wanted: np.ndarray) -> bool:
        """Whether a shift can be what is wanted, without drowning a map.

        After a gain that is as good as 0 the shift would be so large that float32 had
        no digits left for the map, which others read as well.
        """
        if not np.all(left.open() | _close(left.constant, wanted)):
            return False
        chosen, sizes = _chosen(left), np.zeros(len(wanted))
        for key, channels in chosen.items():
            times = np.where(channels, left.terms[key], 1.0)
            sizes += np.where(channels, np.abs((wanted - left.constant) / times), 0.0)
        widths = ((-start, len(self._solved[unknown])) for unknown, start in chosen)
        parts = [_placed(sizes, *width) for width in widths]
        return all(part.max() <= _LARGER * (1 + np.median(part)) for part in parts)

    def _reduced(self, shift: Shift) -> Shift:
        """Returns the shift in terms of what is still open."""
        width = len(shift.constant)
        while True:
            known = {}
            for (unknown, start), times in shift.terms.items():
                solved = _placed(self._solved[unknown], start, width)
                if np.any(times[solved]):
                    known[unknown, start] = np.where(solved, times, 0.0)
            if not known:
                return shift
            rest = {key: x - known.get(key, 0.0) for key, x in shift.terms.items()}
            shift = Shift(shift.constant, {k: x for k, x in rest.items() if x.any()})
            for (unknown, start), times in known.items():
                solution = self._solutions[unknown].placed(start, width)
                shift = shift.plus(solution, times)


def is_close(shift: np.ndarray, other: np.ndarray) -> bool:
    """Whether two shifts differ by less than float32 can tell."""
    return bool(np.all(_close(shift, other)))


def _close(shift: np.ndarray, other: np.ndarray) -> np.ndarray:
    size = np.maximum(np.abs(shift), np.abs(other))
    # Each channel by itself: one that is constant may be far smaller than the others,
    # which are off by no more than the rounding of float64 after they cancel.
    return np.abs(shift - other) <= 1e-7 * size + 1e-14 * size.max(initial=0.0)


def _chosen(shift: Shift) -> dict[tuple[int, int], np.ndarray]:
    """Returns the unknowns that give way, and in which channels.

    It is the newest, which stands nearest to where a value is wanted, of those that
    need not change by far more than another would.
    """
    taken = ~shift.open()
    largest = np.max([np.zeros(len(taken)), *map(np.abs, shift.terms.values())], axis=0)
    chosen = {}
    for key in sorted(shift.terms, key=lambda key: (-key[0], key[1])):
        channels = ~taken & (np.abs(shift.terms[key]) * _LARGER >= largest)
        if channels.any():
            chosen[key] = channels
        taken |= channels
    return chosen


class ShiftRule(NamedTuple):
    """How a call that makes y of x can be made to make y - t of x - s.

    Attributes:
        given: t, in terms of s or free to choose.
        targets: Shifts, and the values at which the layer has nothing left to add.
        fits: Whether the operation changes with s and t.
    """

    given: Shift
    targets: Sequence[tuple[Shift, Any]] = ()
    fits: bool = False


def move_shifts(graph: _graph.Graph) -> _graph.Graph:
    """Rewrites shifts and biases so that few additions remain.

    Convolutions make any s for nothing, by their bias or, where they are binary and end
    in a ReLU, by the offset right after; dense layers take any; pools and sums hand it
    on; signs and activations with shifts have one s each that leaves nothing to add.
    What needs no addition now stays so. The other wishes are then granted in the order
    of the network, where those before leave s open, so additions only ever become
    fewer.

    In a residual block sign - convolution - sum - RPReLU, the convolution's bias makes
    the sum ready for the RPReLU, and its last shift travels on until a sign adds it to
    its own: of four additions of constants one remains.
    """
    unknowns = Unknowns()
    shifts: dict[int, Shift] = {}
    targets: list[tuple[Shift, Any]] = []
    fits: list[tuple[_graph.Call, Shift, Shift]] = []
    for call in graph.calls:
        taken = [shifts.get(id(x)) or _unshifted(x) for x in call.reads]
        rule = _shift_rule(graph, call, taken, unknowns)
        targets.extend(rule.targets)
        if rule.fits:
            fits.append((call, taken[0], rule.given))
        shifts[id(call.outputs)] = rule.given
        if graph.is_output(call.outputs):
            targets.append((rule.given, 0.0))
    for shift, wanted in sorted(targets, key=lambda target: bool(np.any(target[1]))):
        unknowns.solve(shift, wanted)
    for call, before, after in fits:
        by = _Rescaling(unknowns.value(before), unknowns.value(after))
        graph = graph.with_operation(_rescaled_call(call, by))
    moved = [
        call.outputs
        for call in graph.calls
        if not tf.nest.is_nested(call.outputs)
        # Of an output, s is 0 but for rounding.
        and not graph.is_output(call.outputs)
        and np.any(unknowns.value(shifts[id(call.outputs)]))
    ]
    return graph.renewed(moved)


def _shift_rule(
    graph: _graph.Graph, call: _graph.Call, taken: list[Shift], unknowns: Unknowns
) -> ShiftRule:
    """The rule of a call of which each input is kept as x - s, s as in `taken`."""
    operation, kind = call.operation, call.operation.kind
    # Of a call that is not known here, or whose weights could not fit each use.
    fixed = ShiftRule(_unshifted(call.first_output), [(shift, 0.0) for shift in taken])
    if tf.nest.is_nested(call.outputs):  # several
        return fixed
    if len(taken) > 1:
        weights = _kinds.weights_of_sum(call)
        if _kinds.joins_channels(call):
            return ShiftRule(joined(taken))
        alike = len({edge.shape[-1] for edge in call.reads}) == 1
        if weights is None or not alike:
            return fixed
        return ShiftRule(weighted_sum(taken, weights))
    shift, channels = taken[0], _channels(call.first_input)
    if _kinds.commutation(call).shift:
        return ShiftRule(joined([shift] * (call.first_output.shape[-1] // channels)))
    if kind is ChannelPadding:
        sides = call.layer.before, call.layer.after
        before, after = (constant(np.zeros(n)) for n in sides)
        return ShiftRule(joined([before, shift, after]))
    if is_affine(call):
        scale, bias = _reading.scale_and_bias(call)
        through = weighted_sum([shift], [scale])
        if not np.any(bias):
            return ShiftRule(through)
    if is_shared(graph, call):
        return fixed
    if is_affine(call):
        given = unknowns.new(channels)
        kept = [] if _is_merged(graph, call) else [(given.plus(through, -1.0), bias)]
        return ShiftRule(given, kept, fits=True)
    if kind is ThresholdedLinearUnit:
        return ShiftRule(shift, fits=True)
    if kind is _inference.ShiftedReLU:  # its addition and it are one operation
        return ShiftRule(fixed.given, fits=True)
    if kind in (_inference.PlainRPReLU, _inference.PlainGroupNormalization):
        own = [_reading.numbers(operation, name, channels) for name in _ADDED[kind]]
        given = unknowns.new(channels)
        return ShiftRule(given, [(shift, -own[0]), (given, own[1])], fits=True)
    sign, wanted = _reading.sign_operation(call), fixed.targets
    if sign is not None and sign.kind is _inference.ShiftedSign:
        wanted = [(shift, -_reading.numbers(sign, "shift", channels))]
        if _signs.sign_of_layer(call.layer):
            return ShiftRule(fixed.given, wanted, fits=True)
    if kind is _inference.BinaryConvolution:
        last = operation.argument("last")
    elif _reading.has_real_kernel(call) and _kinds.is_channels_last(call.layer):
        last, wanted = call.layer.activation, [] if _takes_any(call) else wanted
    else:
        return fixed
    given = unknowns.new(_channels(call.outputs)) if last is _LINEAR else fixed.given
    return ShiftRule(given, wanted, fits=True)


def _is_merged(graph: _graph.Graph, call: _graph.Call) -> bool:
    """Whether the converter makes any bias of an affine operation a convolution's."""
    source = graph.producer(call.first_input)
    if source is None:
        return False
    return graph.sole_consumer(call.first_input) is call and _reading.merges_after(
        source
    )


def _takes_any(call: _graph.Call) -> bool:
    """Whether all of a kernel meets the shift everywhere, so that its bias takes it."""
    form, sign = (
        _linear.linear_of(call.operation),
        call.operation.argument("input_quantizer"),
    )
    return form is not None and form.is_uniform and sign is None


def _unshifted(edge: Any) -> Shift:
    """Returns the shift of an edge that stays as it is."""
    return constant(np.zeros(_channels(edge)))


def _channels(edge: Any) -> int:
    # An edge without axes, or of an open one, is never anything but fixed.
    return (edge.shape[-1] if edge.shape.rank else 1) or 1
