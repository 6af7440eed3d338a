r"""The operations that a program consists of, one frozen dataclass a kind.

Each computes TensorFlow tensors (`emit`), says what passes through it (`through`), and
may absorb an affine operation that stands before it (`absorb_input`) or after it
(`absorb_output`). With numbers per channel k and b, and a kernel W, which is linear:

\[ W (k x + b) = (W k) x + W b, \quad k (W x) + b = (k W) x + b, \quad
   \operatorname{sign}(k x + b) = \operatorname{sign}(x + b / k) \text{ for } k > 0 \]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Flag, auto
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf

from ..._larq import lq
from ...graph import _thresholds
from ...layers._rprelu import spelled_prelu
from ..lite import _lce_faults
from ..trace._constants import constant

# One number for each channel; a single number is repeated for all.
Numbers = Any
# How far a map is padded, before and after, along each axis.
Sides = Sequence[tuple[int, int]]
# A sum whose terms cancel counts as 0 below this fraction of their magnitudes.
_CANCELLED = 1e-13
K = TypeVar("K", bound="Node")
# The class of a node, or the type of a TensorFlow operation without one.
Kind: TypeAlias = "type[Node] | str"


def per_channel(numbers: np.ndarray, channels: int | None) -> np.ndarray | None:
    """Returns one number, or one per channel, (C,); None if they vary otherwise."""
    if numbers.size == 1 or numbers.shape[-1:] == (numbers.size,) == (channels,):
        return numbers.reshape(-1).astype(np.float64)
    return None


class InvalidProgram(Exception):
    """Raised for a program that cannot be computed, because some rule is wrong."""


class Value:
    """A tensor that one node makes and others read.

    Attributes:
        shape: One size per axis, None for an unknown size; None for an unknown rank.
        dtype: The type of its numbers.
    """

    def __init__(self, shape: Sequence[int | None] | None, dtype: tf.DType):
        self.shape = None if shape is None else tuple(shape)
        self.dtype = dtype

    def like(self) -> Value:
        """Returns a new value of the same shape and type."""
        return Value(self.shape, self.dtype)

    def of_channels(self, channels: int) -> Value:
        """Returns a new value that differs only in its number of channels."""
        return Value((*(self.shape or ())[:-1], channels), self.dtype)

    @property
    def channels(self) -> int | None:
        return self.shape[-1] if self.shape else None

    @property
    def sizes(self) -> list[int]:
        """The known sizes of the shape."""
        return [size for size in self.shape or () if size]

    @property
    def is_map(self) -> bool:
        return self.shape is not None and len(self.shape) == 4


class Through(Flag):
    """The changes of x that pass through an operation f to its output."""

    FACTOR = auto()  # f(k x) = k f(x), per channel, for k > 0
    ANY_FACTOR = auto()  # the same for all other k
    SHIFT = auto()  # f(x + b) = f(x) + b, per channel
    SIGNS = auto()  # signs stay signs, in another shape or within a border
    NUMBERS = auto()  # each element of f(x) is an element of x, or 0


NOTHING = Through(0)
_CHANNELS = Through.FACTOR | Through.ANY_FACTOR | Through.SHIFT
_LARGEST = Through.FACTOR | Through.SHIFT | Through.NUMBERS
_RESHAPE = _CHANNELS | Through.SIGNS | Through.NUMBERS


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
        name: Where it comes from, 'net/layer/operation'.
        reads, makes: Its inputs and outputs.
        per_channel: The names of fields with one number for each output channel.
        reals: The names of fields with real numbers that it computes with.
        through: The changes of its input that pass through it.
        emit: Returns its output tensor, or a list, from a name and its input tensors.
    """

    name: str
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]

    per_channel: ClassVar[tuple[str, ...]] = ()
    reals: ClassVar[tuple[str, ...]] = ()
    through: ClassVar[Through] = NOTHING
    is_reshape: ClassVar[bool] = False
    type: ClassVar[str] = ""  # the type of a TensorFlow operation, for `Other`
    emit: ClassVar[Callable[..., Any]]

    def __post_init__(self) -> None:
        count = self.makes[0].channels or 1
        for name in self.per_channel:
            numbers = getattr(self, name)
            whole = isinstance(numbers, np.ndarray) and numbers.dtype == np.float64
            tensor = isinstance(getattr(numbers, "dtype", None), tf.DType)
            if tensor or (whole and numbers.shape == (count,)):
                continue
            numbers = np.asarray(numbers, np.float64).ravel()
            if numbers.size not in (1, count):
                raise InvalidProgram(
                    f"Node {self} has {numbers.size} numbers in {name!r} for {count} "
                    "channels."
                )
            if numbers.size != count:
                numbers = np.full(count, numbers[0])
            object.__setattr__(self, name, numbers)

    def __str__(self) -> str:
        return f"{self.name!r} ({type(self).__name__})"

    @property
    def x(self) -> Value:
        """The first value that it reads."""
        return self.reads[0]

    @property
    def y(self) -> Value:
        """The first value that it makes."""
        return self.makes[0]

    def is_a(self, *kinds: Kind) -> bool:
        """Returns whether it is of one of these kinds."""
        return type(self) in kinds or self.type in kinds

    def reading(self: K, old: Value, new: Value) -> K:
        """Returns the same operation, reading `new` instead of `old`."""
        return self.reading_moved({old: new})

    def reading_moved(self: K, moved: Mapping[Value, Value]) -> K:
        """Returns the same operation with its inputs replaced as `moved` says."""
        reads = tuple(moved.get(value, value) for value in self.reads)
        return self if reads == self.reads else replace(self, reads=reads)

    def making(self: K, value: Value) -> K:
        """Returns the same operation, making `value`."""
        return replace(self, makes=(value,))

    def between(self: K, x: Value, y: Value) -> K:
        """Returns the same operation, reading x and making y."""
        return replace(self, reads=(x,), makes=(y,))

    @property
    def keeps_channels(self) -> bool:
        """Whether it is a reshape that leaves the last axis as it is."""
        return self.is_reshape and self.x.channels == self.y.channels is not None

    def lets_through(self, k: np.ndarray, b: np.ndarray) -> bool:
        """Whether a factor k (with b = 0) or a shift b (with k = 1) passes through."""
        if np.any(b):
            return Through.SHIFT in self.through
        kind = Through.FACTOR if np.all(k > 0) else Through.ANY_FACTOR
        return kind in self.through

    def spread(self, value: Value, numbers: np.ndarray, rest: float) -> np.ndarray:
        """Returns numbers per channel of an input as those of the output."""
        return numbers

    def absorb_input(self, k: np.ndarray, b: np.ndarray) -> Node | None:
        """Returns one node that makes of x what this makes of k x + b; else None."""
        return None

    def absorb_output(self, k: np.ndarray, b: np.ndarray) -> Node | None:
        """Returns one node that makes k y + b where this makes y; else None."""
        return None


@dataclass(frozen=True, eq=False)
class Constant(Node):
    """An array that reads nothing."""

    value: Any
    reals = ("value",)

    def emit(self, name: str) -> Any:
        return tf.convert_to_tensor(self.value, name=name)


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """y = k x + b."""

    k: Numbers
    b: Numbers = 0.0
    per_channel = reals = ("k", "b")

    @property
    def is_scale(self) -> bool:
        return not np.any(self.b)

    @property
    def is_shift(self) -> bool:
        return bool(np.all(self.k == 1))

    def absorb_input(self, k: np.ndarray, b: np.ndarray) -> Affine:
        return replace(self, k=self.k * k, b=self.b + self.k * b)

    def absorb_output(self, k: np.ndarray, b: np.ndarray) -> Affine:
        return replace(self, k=k * self.k, b=k * self.b + b)

    def emit(self, name: str, x: Any) -> Any:
        return _scaled(x, self.k, self.b, name)


@dataclass(frozen=True, eq=False)
class Kernel(Node):
    """y = scale * (weights * x) + bias, of a convolution or a dense layer.

    A dense layer has the strides, padding and dilations of a 1x1 convolution, which it
    is.

    Attributes:
        weights: In TensorFlow's layout; ±1 if `binary`, else with the scale included.
        of: 'Conv2D', 'DepthwiseConv2dNative' or 'MatMul'.
        binary: Whether the weights are ±1 and the input consists of signs.
        part_of: The name of the convolution in groups of which this is one group.
    """

    weights: Any
    of: str = "Conv2D"
    scale: Numbers = 1.0
    bias: Numbers = 0.0
    binary: bool = False
    groups: int = 1
    strides: Sequence[int] = (1, 1, 1, 1)
    padding: str = "VALID"
    dilations: Sequence[int] = (1, 1, 1, 1)
    part_of: str = ""
    per_channel = ("scale", "bias")
    reals = ("weights", "scale", "bias")

    def __post_init__(self) -> None:
        super().__post_init__()
        last = 2 if self.is_depthwise else 1
        if math.prod(self.weights.shape[-last:]) != (self.y.channels or 1):
            raise InvalidProgram(
                f"Node {self} has weights of shape {tuple(self.weights.shape)} for "
                f"{self.y.channels} channels."
            )

    @property
    def is_depthwise(self) -> bool:
        return self.of == "DepthwiseConv2dNative"

    @property
    def is_plain(self) -> bool:
        """Whether it has neither scale nor bias."""
        return not np.any(self.bias) and bool(np.all(self.scale == 1))

    def absorb_input(self, k: np.ndarray, b: np.ndarray) -> Kernel | None:
        """Absorbs a shift if no padding meets the kernel; if binary, only k = ±1."""
        if np.any(b):
            single = self.weights.shape[:2] == (1, 1) and not self.is_depthwise
            if self.binary or not (self.padding == "VALID" or single):
                return None
        elif self.binary and np.any(np.abs(k) != 1):
            return None
        made = replace(self, bias=self.bias + self.response(b))
        return made if np.all(k == 1) else made._times(self._by_input(k))

    def absorb_output(self, k: np.ndarray, b: np.ndarray) -> Kernel:
        """Absorbs k and b; binary weights take the sign of k, their scale its size."""
        made = replace(self, bias=k * self.bias + b)
        if np.all(k == 1):
            return made
        if self.binary:
            made = replace(made, scale=self.scale * np.abs(k))
            return made._times(np.where(k < 0, -1.0, 1.0))
        shape = self.weights.shape[-2:] if self.is_depthwise else k.shape
        return made._times(k.reshape(shape))

    def _times(self, factors: np.ndarray) -> Kernel:
        return replace(self, weights=self.weights * factors)

    def response(self, b: np.ndarray) -> np.ndarray:
        """Returns its output for a constant b per channel, away from padding.

        Where terms cancel but for their rounding, the output is 0.
        """
        weights = self.weights.astype(float)

        def sums(weights: np.ndarray, b: np.ndarray) -> np.ndarray:
            taps = weights.sum(axis=tuple(range(weights.ndim - 2))) * self._by_input(b)
            return np.ravel(taps) if self.is_depthwise else taps.sum(axis=0)

        total, size = sums(weights, b), sums(np.abs(weights), np.abs(b))
        return np.where(np.abs(total) > _CANCELLED * size, total, 0.0)

    def _by_input(self, numbers: np.ndarray) -> np.ndarray:
        """Shapes numbers per input channel to multiply the weights' last two axes."""
        if self.is_depthwise:
            return numbers[:, None]
        filters = self.weights.shape[-1] // self.groups
        return np.repeat(numbers.reshape(self.groups, -1), filters, axis=0).T

    def emit(self, name: str, x: Any) -> Any:
        weights, rates = _numbers(self.weights), list(self.dilations)
        options = {"strides": self.strides, "padding": self.padding, "name": name}
        if self.of == "MatMul":
            y = tf.matmul(x, weights, name=name)
        elif self.of == "Conv2D":
            y = tf.nn.conv2d(x, weights, **options, dilations=rates)
        else:
            y = tf.nn.depthwise_conv2d(x, weights, **options, dilations=rates[1:3])
        return _scaled(y, self.scale, self.bias, f"{name}_affine")


def channelwise(name: str, x: Value, k: Numbers, y: Value, b: Numbers = 0.0) -> Kernel:
    """Returns k x + b of a map as a depthwise 1x1 convolution."""
    weights = np.broadcast_to(np.asarray(k, float), x.channels or 1)
    weights = weights[None, None, :, None]
    return Kernel(name, (x,), (y,), weights, "DepthwiseConv2dNative", bias=b)


@dataclass(frozen=True, eq=False)
class Sign(Node):
    """y = 1 where x + shift >= 0, else -1.

    Attributes:
        compared: Whether it is written as a comparison instead of Larq's sign.
        quantizer: Computes a sign and its gradient in a Keras model.
    """

    shift: Numbers = 0.0
    compared: bool = False
    quantizer: Callable[[Any], Any] | None = None
    per_channel = ("shift",)

    def absorb_input(self, k: np.ndarray, b: np.ndarray) -> Sign | None:
        if np.any(k <= 0):
            return None
        limit = _thresholds.threshold_of_affine(k, b + self.shift)
        return replace(self, shift=limit.shift())

    def emit(self, name: str, x: Any) -> Any:
        if self.quantizer is not None:
            return self.quantizer(tf.add(x, _numbers(self.shift)))
        if not np.any(self.shift) and not self.compared:
            return lq.math.sign(x)
        # LCE takes sign(sign(x) + 0.1) for Larq's sign. It would take a shifted sign of
        # a sign for that, too, and drop the shift.
        above = tf.add(x, _numbers(self.shift)) >= 0
        return tf.where(above, 1.0, -1.0, name=name)


@dataclass(frozen=True, eq=False)
class SaturatingSign(Node):
    """sign(x + shift) from multiplications that saturate, which every runtime has.

    Attributes:
        step: In int8, the distance of two numbers of x; None for float32 numbers.
        padding: How many ones to add around a map along each axis; None for none.
    """

    shift: Numbers = 0.0
    step: float | None = None
    padding: Sides | None = None
    per_channel = ("shift",)

    def emit(self, name: str, x: Any) -> Any:
        shape = x.shape
        with tf.name_scope(name):
            if shape.rank != 4:
                x = tf.reshape(x, (-1, 1, math.prod(shape[1:-1]), shape[-1]))
            y = self._of_floats(x) if self.step is None else self._of_steps(x)
            return tf.reshape(y, (-1, *shape[1:])) if shape.rank != 4 else y

    def _of_floats(self, x: Any) -> Any:
        """Computes 2^100 x, cut off beyond ±1; then 4 times that, for |x| < 2^-100.

        A converter may multiply the kernel before it by such a factor, and its sums
        must not overflow. sign(0) is +1, so zeros that pad a map become +1.
        """
        if np.any(self.shift):
            x = x + _numbers(self.shift)
        x = tf.clip_by_value(self._padded(x) * np.float32(2.0**100), -1.0, 1.0)
        return _saturated(x, 4.0, 2.0)

    def _of_steps(self, x: Any) -> Any:
        """Computes clip(4/s * x + 2 - 4g/s, -1, 1) for numbers x in steps of s.

        The number g is the least one that becomes +1. One step changes the sum by 4, so
        all saturate. If g is not 0, zeros cannot be padded before, only ones after.
        """
        step, moved = self.step or 1.0, np.any(self.shift)
        least = np.ceil(np.round(-self.shift / step, 6)) if moved else 0.0
        y = _saturated(x if moved else self._padded(x), 4 / step, 2 - 4 * least)
        # In this range, ±1 are exact.
        y = tf.quantization.fake_quant_with_min_max_vars(y, -128 / 127, 1.0)
        return self._padded(y, 1.0) if moved else y

    def _padded(self, x: Any, value: float = 0.0) -> Any:
        if self.padding is None:
            return x
        return tf.pad(x, [(0, 0), *self.padding, (0, 0)], constant_values=value)


@dataclass(frozen=True, eq=False)
class Sum(Node):
    """The sum of two maps of one shape."""

    through = Through.SHIFT

    def emit(self, name: str, x: Any, y: Any) -> Any:
        return tf.add(x, y, name=name)


@dataclass(frozen=True, eq=False)
class Magnitude(Node):
    """|x|."""

    def emit(self, name: str, x: Any) -> Any:
        return tf.abs(x, name=name)


@dataclass(frozen=True, eq=False)
class PReLU(Node):
    """max(x, 0) + slope * min(x, 0)."""

    slope: Numbers
    per_channel = reals = ("slope",)
    through = Through.FACTOR

    def emit(self, name: str, x: Any) -> Any:
        return spelled_prelu(x, _numbers(self.slope))


@dataclass(frozen=True, eq=False)
class SummedPReLU(Node):
    """A PReLU in int8 as a sum, of operations that delegates have in int8.

    One summand is max(x, 0), rounded as x is; the other is slope * min(x, 0), which is
    rounded again, and so is the sum. Without negative slopes, the other is written as
    slope * x in a range that ends at 0.

    Attributes:
        before, after: The ends of the ranges of x and y.
    """

    slope: Numbers
    before: tuple[float, float]
    after: tuple[float, float]
    per_channel = reals = ("slope",)

    def emit(self, name: str, x: Any) -> Any:
        rounded = tf.quantization.fake_quant_with_min_max_vars

        def scaled(x: Any, slope: np.ndarray) -> Any:
            kernel = _numbers(slope.reshape(1, 1, -1, 1))
            return tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")

        # Delegates have no separate ReLU in int8, so it follows a convolution.
        slope, rest, (low, high) = self.slope, x, self.after
        positive = rounded(tf.nn.relu(scaled(rest, np.ones_like(slope))), *self.before)
        if np.min(slope) < 0:
            rest = rounded(rest - positive, *self.before)
        else:
            high = 0.0
        return tf.add(positive, rounded(scaled(rest, slope), low, high), name=name)


@dataclass(frozen=True, eq=False)
class Reshape(Node):
    """The same numbers in another shape."""

    is_reshape = True

    @property
    def through(self) -> Through:  # type: ignore[override]
        return _RESHAPE if self.keeps_channels else _RESHAPE & ~_CHANNELS

    def emit(self, name: str, x: Any) -> Any:
        sizes = [-1 if size is None else size for size in self.y.shape or ()]
        return tf.reshape(x, sizes, name=name)


@dataclass(frozen=True, eq=False)
class Pad(Node):
    """A map padded with a number."""

    sides: Sides
    value: Any
    reals = ("value",)
    through = Through.SIGNS

    def emit(self, name: str, x: Any) -> Any:
        return tf.pad(x, self.sides, constant_values=self.value, name=name)


@dataclass(frozen=True, eq=False)
class Joined(Node):
    """The channels of several maps, one after the other."""

    through = _LARGEST

    @property
    def ends(self) -> np.ndarray:
        """The numbers of channels at which each part but the last ends."""
        return np.cumsum([part.channels or 1 for part in self.reads])[:-1]

    def spread(self, value: Value, numbers: np.ndarray, rest: float) -> np.ndarray:
        parts = [
            numbers if part is value else np.full(part.channels or 1, rest)
            for part in self.reads
        ]
        return np.concatenate(parts)

    def emit(self, name: str, *parts: Any) -> Any:
        return tf.concat(parts, -1, name=name)


@dataclass(frozen=True, eq=False)
class Part(Node):
    """A slice of a map along each axis."""

    of: tuple[Any, ...]
    through = Through.NUMBERS

    def emit(self, name: str, x: Any) -> Any:
        return x[self.of]


@dataclass(frozen=True, eq=False)
class PlusLast(Node):
    """All channels but the last, plus the last one."""

    def emit(self, name: str, x: Any) -> Any:
        return tf.add(x[..., :-1], x[..., -1:], name=name)


@dataclass(frozen=True, eq=False)
class Rest(Node):
    """value - x, which corrects a binary convolution for padding by ones.

    Attributes:
        value: What the ones add to the sums, for each position and channel.
        border: The number with which the model pads the map instead.
    """

    value: Any
    border: float
    reals = ("value",)

    def emit(self, name: str, x: Any) -> Any:
        return tf.subtract(self.value, x, name=name)


@dataclass(frozen=True, eq=False)
class Range(Node):
    """x rounded to one of 256 evenly spaced numbers from low to high."""

    low: float
    high: float

    @property
    def step(self) -> float:
        """The distance of two neighboring numbers."""
        return float(self.high - self.low) / 255

    def emit(self, name: str, x: Any) -> Any:
        low, high = tf.constant(self.low), tf.constant(self.high)
        y = tf.quantization.fake_quant_with_min_max_vars(x, low, high, name=name)
        # This is always y. Converters would move a reshape before y, as a float one.
        return tf.where(high > low, y, x, name=f"{name}_selected")


@dataclass(frozen=True, eq=False)
class Levels(Node):
    """A range as float operations; 0 is `zero` steps above `low`."""

    low: np.floating
    high: np.floating
    step: np.floating
    zero: np.floating

    def emit(self, name: str, x: Any) -> Any:
        # The order of TensorFlow's kernel, so that ties are rounded to the same side.
        inside = tf.clip_by_value(x, self.low, self.high)
        places = (inside - self.low) * (1 / self.step) - self.zero
        return tf.multiply(tf.floor(places + 0.5), self.step, name=name)


@dataclass(frozen=True, eq=False)
class Clip(Node):
    """x limited to [low, high]."""

    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def emit(self, name: str, x: Any) -> Any:
        if self.bounds == (0.0, np.inf):
            return tf.nn.relu(x, name=name)
        if self.bounds == (0.0, 6.0):
            return tf.nn.relu6(x, name=name)
        return tf.clip_by_value(x, self.low, self.high, name=name)


@dataclass(frozen=True, eq=False)
class Copy(Node):
    """x itself, which keeps LCE from merging its maker with its readers."""

    def emit(self, name: str, x: Any) -> Any:
        return tf.maximum(x, x, name=name)


_RESHAPES = ("Reshape", "ExpandDims", "Squeeze")
_REDUCTIONS = ("Mean", "Max")
# What passes through TensorFlow operations that leave the axis of channels alone.
_THROUGH = {
    **dict.fromkeys(("Relu", "LeakyRelu"), Through.FACTOR),
    **dict.fromkeys(("MaxPool", "Max"), _LARGEST),
    **dict.fromkeys(("AvgPool", "Mean"), _CHANNELS),
    **dict.fromkeys(_RESHAPES, _RESHAPE),
    # These only move the elements of their inputs, or add zeros.
    **dict.fromkeys(
        (
            *("Min", "Maximum", "Minimum", "ConcatV2", "Pack", "Unpack"),
            *("Transpose", "StridedSlice", "Slice", "GatherV2", "DepthToSpace"),
            *("SpaceToDepth", "Tile", "Roll", "Split", "SplitV"),
        ),
        Through.NUMBERS,
    ),
}


@dataclass(frozen=True, eq=False)
class Other(Node):
    """A TensorFlow operation that no other kind describes, copied as it is."""

    op: Any

    @property
    def type(self) -> str:  # type: ignore[override]
        return str(self.op.type)

    @property
    def is_reshape(self) -> bool:  # type: ignore[override]
        return self.type in _RESHAPES

    @cached_property
    def through(self) -> Through:  # type: ignore[override]
        through = _THROUGH.get(self.type, NOTHING)
        if self.type in _REDUCTIONS:
            axes, rank = constant(self.op.inputs[1]), len(self.x.shape or ())
            apart = axes is not None and rank - 1 not in np.ravel(axes) % max(rank, 1)
        else:
            apart = self.keeps_channels or not self.is_reshape
        return through if apart else through & ~_CHANNELS

    def emit(self, name: str, *x: Any) -> Any:
        op, graph_def = self.op, tf.compat.v1.GraphDef()
        if op.type == "Softplus" and self.y.dtype == tf.float32:
            with tf.name_scope(f"{op.name}/"):
                return _lce_faults.bounded_softplus(x[0])
        graph_def.versions.CopyFrom(op.graph.graph_def_versions)
        if any(a.HasField("func") for a in op.node_def.attr.values()):
            graph_def.library.CopyFrom(op.graph.as_graph_def().library)
        written = graph_def.node.add()
        written.CopyFrom(op.node_def)
        del written.input[:]
        names = [f"operand_{place}" for place in range(len(x))]
        written.input.extend(names)
        ends = [f"{op.name}:{place}" for place in range(len(op.outputs))]
        operands = {f"{name}:0": tensor for name, tensor in zip(names, x, strict=True)}
        found: list[Any] = tf.graph_util.import_graph_def(
            graph_def, input_map=operands, return_elements=ends, name=""
        )
        return found


def _numbers(value: Any) -> tf.Tensor:
    # They have rank 1: LCE fuses constants of other ranks into a file that cannot run.
    return tf.convert_to_tensor(value, tf.float32)


def _scaled(x: Any, k: Any, b: Any, name: str) -> Any:
    if tf.is_tensor(k) or np.any(k != 1):
        x = tf.multiply(x, _numbers(k), name=f"{name}_scale")
    if tf.is_tensor(b) or np.any(b):
        x = tf.add(x, _numbers(b), name=name)
    return x


def _saturated(x: Any, factor: float, shift: Numbers) -> Any:
    """Returns clip(factor * x + shift, -1, 1), with the product as a convolution."""
    kernel = np.full((1, 1, x.shape[-1], 1), factor, np.float32)
    y = tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")
    return tf.clip_by_value(y + np.float32(shift), -1.0, 1.0)
