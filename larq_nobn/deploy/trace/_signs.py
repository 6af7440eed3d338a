"""Finds the signs of a trace, however they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._constants import constant
from ._operation_names import layer_of

# A sign passes through these unchanged.
NOTHING = (
    *("Identity", "IdentityN", "StopGradient", "PreventGradient"),
    *("EnsureShape", "CheckNumerics"),
)
RESHAPES = ("Reshape", "ExpandDims", "Squeeze", "Transpose")
_POOLS = ("MaxPool", "AvgPool", "Mean")
_NEVER_BELOW_0 = ("Relu", "Relu6", "Abs", "Square", "Sigmoid", "Softmax", "Exp")
_ADDS = ("AddV2", "Add")
_SELECTIONS = ("Select", "SelectV2")
_COMPARES = {
    "GreaterEqual": np.greater_equal,
    "Greater": np.greater,
    "Less": np.less,
    "LessEqual": np.less_equal,
}


class TracedSign(NamedTuple):
    """A sign of a trace: its `value`, and the one or two tensors `of` which it is.

    It is the sign of their difference: `first` where `compare(difference, 0)`, else
    `second`. Without `compare` it is TensorFlow's own sign, which is 0 at 0 and so has
    two thresholds there. Without `of`, its distance from 0 is unknown.
    `layer` is the name of its layer.
    """

    value: Any
    of: tuple[Any, ...]
    compare: Any = None
    first: Any = 1
    second: Any = -1
    layer: str = ""

    @property
    def is_rectified(self) -> bool:
        """Whether its input is never below 0, perhaps reshaped or pooled."""
        op = self.of[0].op
        while op.type in (*NOTHING, *RESHAPES, *_POOLS):
            op = op.inputs[0].op
        ends = [x for x in map(constant, op.inputs) if x is not None]
        clips = op.type == "Maximum" and any(np.all(x >= 0) for x in ends)
        return len(self.of) == 1 and (clips or op.type in _NEVER_BELOW_0)

    def thresholds(self) -> list[tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
        """Lists pairs (f, g) such that f(difference) must equal g(value)."""
        first, second = np.greater(self.first, 0), np.greater(self.second, 0)

        def is_positive(difference: Any) -> np.ndarray:
            chosen = self.compare(difference, 0)
            return (chosen & first) | (~chosen & second)

        if self.compare is not None:
            return [(is_positive, lambda x: x > 0)]
        both: Any = ((lambda x: x > 0), (lambda x: x >= 0))
        return [(side, side) for side in both]

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Returns values of a file, rounded to those that it can have here."""
        if self.compare is None:
            return np.sign(values)
        ends = np.append(self.first, self.second)
        return np.where(values > 0, ends.max(), ends.min())


class TracedSum(NamedTuple):
    """A sum of a trace whose terms cancel: x + (q - x) rounds as x does, not as q."""

    value: Any
    of: tuple[Any, ...]
    layer: str

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Returns values of a file, rounded to those that it can have here."""
        return values

    def terms(self, of: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the terms of the sum along a new last axis."""
        first, *rest = (x.astype(float) for x in of)
        subtracts = self.value.op.type == "Sub"
        return np.stack([first, *(-x if subtracts else x for x in rest)], -1)


def signs_of(
    operations: Iterable[Any],
    size: int | None,
    layer_of: Callable[[Any], str] = layer_of,
) -> list[TracedSign]:
    """Lists the signs whose inputs are known, each after those that it depends on.

    Examples are their first axis, perhaps with time or windows folded into it; the
    graph takes `size` of them at once, or any number if that is None.
    """
    signs = filter(None, map(sign_taken_by, operations))
    return [
        sign._replace(layer=layer_of(sign.value.op))
        for sign in signs
        if sign.of and has_examples(sign.value, size)
    ]


def has_examples(tensor: Any, size: int | None) -> bool:
    """Whether the first axis of a tensor fits `size` examples, if that is known."""
    shape = tensor.shape
    if not shape.rank or not shape[1:].is_fully_defined():
        return False
    if size is None or shape[0] is None:
        return size is shape[0]
    return bool(shape[0] % size == 0)


def sign_taken_by(op: Any) -> TracedSign | None:
    """Returns the sign that an operation computes; None for other operations."""
    taken = (recognized(op) for recognized in _RECOGNIZERS)
    return next((sign for sign in taken if sign is not None), None)


def _larqs(op: Any) -> TracedSign | None:
    """Recognizes Larq's sign, which is +1 at 0.

    x -> Sign -> Add 0.1 -> [Sign]
    """
    if not is_larqs_sign(op):
        return None
    (x,) = op.inputs[0].op.inputs[0].op.inputs
    return TracedSign(op.outputs[0], (x,), np.greater_equal)


def _tensorflows(op: Any) -> TracedSign | None:
    """Recognizes TensorFlow's sign, which is 0 at 0; after a ReLU it is a step.

    x -> [Sign], or x -> Relu -> [Sign]
    """
    if not _is_tensorflows(op):
        return None
    before = op.inputs[0].op
    if before.type in ("Relu", "Relu6"):
        return TracedSign(op.outputs[0], tuple(before.inputs), np.greater, 1, 0)
    return TracedSign(op.outputs[0], (op.inputs[0],))


def _selected(op: Any) -> TracedSign | None:
    """Recognizes a selection of two constants of magnitude 1.

    x, threshold -> GreaterEqual -> [Select](1, -1)
    """
    if op.type not in _SELECTIONS:
        return None
    constants = map(constant, op.inputs[1:])
    ends = [x for x in constants if x is not None and np.all(np.abs(x) == 1)]
    if len(ends) < 2:
        return None
    compared, rank = op.inputs[0].op, op.outputs[0].shape.rank
    compare = _COMPARES.get(compared.type)
    of = tuple(compared.inputs) if compare else ()
    # A constant with a row for each example of the batch is cut to one row.
    first, second = (x[:1] if x.ndim == rank else x for x in ends)
    return TracedSign(op.outputs[0], of, compare, first, second)


def _compared(op: Any) -> TracedSign | None:
    """Recognizes a comparison that does not just select a sign.

    x, threshold -> [GreaterEqual] -> Select(y, z)
    """
    if op.type not in _COMPARES or not op.inputs[0].dtype.is_floating:
        return None
    if all(map(sign_taken_by, op.outputs[0].consumers())):
        return None
    compare = _COMPARES[op.type]
    return TracedSign(op.outputs[0], tuple(op.inputs), compare, True, False)


_RECOGNIZERS = (_larqs, _tensorflows, _selected, _compared)


def _is_tensorflows(op: Any) -> bool:
    """Whether it is TensorFlow's sign, and no part of a larger sign.

    Larq's sign contains another one. The outer sign of a ternary quantizer is none of
    its own, either: the two signs that it adds decide its zeros.
    """
    if not is_zero_at_zero(op):
        return False
    after = (reader for tensor in op.outputs for reader in tensor.consumers())
    ends = (x for reader in after for y in reader.outputs for x in y.consumers())
    inner = op.inputs[0].op
    ternary = inner.type in _ADDS and all(x.op.type == "Sign" for x in inner.inputs)
    return not ternary and not any(map(is_larqs_sign, ends))


def is_zero_at_zero(op: Any) -> bool:
    """Whether an operation is TensorFlow's sign, 0 at 0, and not part of Larq's."""
    return op.type == "Sign" and not is_larqs_sign(op)


def is_larqs_sign(op: Any) -> bool:
    """Whether it is Larq's sign, sign(sign(x) + 0.1), and no sum of two signs."""
    if op.type != "Sign" or op.inputs[0].op.type not in _ADDS:
        return False
    first, second = op.inputs[0].op.inputs
    added = constant(second)  # less than 1, or signs are lost
    if first.op.type != "Sign" or added is None:
        return False
    return bool(np.all((added > 0) & (added < 1)))


def always_selected(op: Any) -> int | None:
    """Returns the place of the input that a constant condition selects; else None."""
    condition = constant(op.inputs[0]) if op.type in _SELECTIONS else None
    if condition is None:
        return None
    place = 1 if condition.all() else 2
    fits = condition.all() or not condition.any()
    alike = op.inputs[place].shape.as_list() == op.outputs[0].shape.as_list()
    return place if fits and alike else None
