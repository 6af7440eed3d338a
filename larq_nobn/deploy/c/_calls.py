"""From the operations of a program to calls of the functions in kernels.c."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._errors import InvalidValue
from ...graph import _signs
from .._errors import ConversionError
from ..operations._kinds import Constant, Copy, Kernel, Node, Pad, Sign, Value
from ..operations._moves import loops, moves, sizes_of
from ..operations._program import Program
from ..operations._shapes import same_sides
from ..trace._names import layer_name

# C of A, or of A and B. A condition is 1.0f or 0.0f.
_FUNCTIONS = {
    "Relu": "A > 0 ? A : 0",
    "Relu6": "A < 0 ? 0 : A > 6 ? 6 : A",
    "Elu": "A < 0 ? expm1f(A) : A",
    "Selu": "1.05070098f * (A < 0 ? 1.67326324f * expm1f(A) : A)",
    "Sigmoid": "1 / (1 + expf(-A))",
    "Tanh": "tanhf(A)",
    "Softplus": "(A > 0 ? A : 0) + log1pf(expf(-fabsf(A)))",
    "Softsign": "A / (1 + fabsf(A))",
    "Sqrt": "sqrtf(A)",
    "Rsqrt": "1 / sqrtf(A)",
    "Square": "A * A",
    "Reciprocal": "1 / A",
    "Exp": "expf(A)",
    "Log": "logf(A)",
    "Erf": "erff(A)",
    "Erfc": "erfcf(A)",
    "Abs": "fabsf(A)",
    "Neg": "-A",
    "Sign": "(float)((A > 0) - (A < 0))",
    "Floor": "floorf(A)",
    "Round": "rintf(A)",
    "LogicalNot": "(float)(A == 0)",
    "AddV2": "A + B",
    "Sub": "A - B",
    "Mul": "A * B",
    "RealDiv": "A / B",
    "Maximum": "A > B ? A : B",
    "Minimum": "A < B ? A : B",
    "Pow": "powf(A, B)",
    "SquaredDifference": "(A - B) * (A - B)",
    "Greater": "(float)(A > B)",
    "GreaterEqual": "(float)(A >= B)",
    "Less": "(float)(A < B)",
    "LessEqual": "(float)(A <= B)",
    "Equal": "(float)(A == B)",
    "NotEqual": "(float)(A != B)",
    "LogicalAnd": "(float)(A != 0 && B != 0)",
    "LogicalOr": "(float)(A != 0 || B != 0)",
}
_SAME = {"Add": "AddV2", "BiasAdd": "AddV2", "sum": "AddV2", "Select": "SelectV2"}
# How a reduction starts, and what it makes of the number so far.
_REDUCTIONS = {
    "Mean": (0.0, "Y + A"),
    "Sum": (0.0, "Y + A"),
    "Max": (-np.inf, "Y > A ? Y : A"),
    "Min": (np.inf, "Y < A ? Y : A"),
    "Prod": (1.0, "Y * A"),
}
# What only moves numbers, or leaves zeros.
_MOVES = {
    *("joined", "channels", "pad", "Transpose", "Slice", "StridedSlice", "ConcatV2"),
    *("Pack", "Unpack", "Split", "SplitV", "Tile", "BroadcastTo", "Pad"),
    *("ResizeNearestNeighbor", "SpaceToBatchND", "BatchToSpaceND", "DepthToSpace"),
    *("SpaceToDepth", "ReverseV2", "MirrorPad"),
}
_NOTHING = ("copy", "Identity", "StopGradient", "EnsureShape")
_AXES = 6
# C of a map, and the numbers of its elements.
Operand = tuple[str, np.ndarray]


@dataclass(eq=False)
class Call:
    """One operation of a file, as calls of C functions.

    Attributes:
        node: What it computes, or the last of those.
        function: The C function that does the work.
        lines: C, with {0}, {1}, ... for what it reads, {y} and {scratch}.
        reads, y: Values.
        scratch: The number of words that it needs beside.
        in_place: Whether the numbers of `y` may take the place of those that it reads.
        macs: Multiplications, of one run of the file.
        terms: How large the terms of its sums are, if all that it reads is 1.
        binary: Whether they are of signs.
        constants: The names of those that no earlier call has.
    """

    node: Any
    function: str
    lines: list[str]
    reads: tuple[Value, ...]
    y: Value
    scratch: int = 0
    in_place: bool = False
    macs: int = 0
    terms: float = 1.0
    binary: bool = False
    constants: list[str] = field(default_factory=list)


class Meeting(NamedTuple):
    """What a kernel meets: a map, what is padded around it, and the signs it is of."""

    x: Value
    sides: Sequence[tuple[int, int]]
    around: float
    sign: Node | None


class Calls:
    """The calls that compute a program, and their constants.

    Arguments:
        program: The program; all sizes are known.
        small: Whether real kernels of one size per filter become bits.
        pixels: Of each channel, scale and offset of the bytes of an image, which is the
            one input then.

    Attributes:
        calls: In their order.
        constants: By name: the C type, and the numbers.
        functions: C that is written for this program, by the names of functions.
        inputs, outputs: What is given, and what a call of its own makes for each.
        packed: The values that are signs as bits.
        given: Of values that are only here, those of the program with their numbers.
    """

    def __init__(
        self, program: Program, small: bool = False, pixels: Any = None
    ) -> None:
        self.program, self.small, self.pixels = program, small, pixels
        self.calls: list[Call] = []
        self.constants: dict[str, tuple[str, np.ndarray]] = {}
        self.functions: dict[str, str] = {}
        self.packed, self.given = set[Value](), dict[Value, Value]()
        self._named: dict[Any, str] = {}
        self._new: list[str] = []
        self._aliases: dict[Value, Value] = {}
        self.inputs = [self._opened(x) for x in program.inputs]
        for node in program.nodes:
            self._check_sizes(node)
            if _renames(node):
                self._aliases[node.y] = node.x
            if isinstance(node, Sign):
                self._aliases |= dict.fromkeys(node.makes[1:], node.y)
        kernels = (node for node in program.nodes if isinstance(node, Kernel))
        self._met: dict[Node, Meeting] = {node: self._meeting(node) for node in kernels}
        signs = {met.sign.y for met in self._met.values() if met.sign is not None}
        self._bits = {value: value.like() for value in signs}
        self.packed |= {*self._bits.values()}
        self.given |= {bits: value for value, bits in self._bits.items()}
        numbers = (x for node in program.nodes for x in self._reads(node))
        self._numbers = {self.root(x) for x in (*numbers, *program.outputs)}
        self._done = {node for node in program.nodes if self._goes(node)}
        for node in program.nodes:
            if node not in self._done:
                self._read(node)
        made, self.outputs = {call.y for call in self.calls}, list[Value]()
        for place, end in enumerate(map(self.root, program.outputs)):
            if end not in made or end in self.outputs:
                copy = Copy(f"net/output/{place}", (end,), (end.like(),))
                self._map(copy, "copy", "A")
                self.given[copy.y] = self.given.get(end, end)
                end = copy.y
            self.outputs.append(end)

    def _opened(self, value: Value) -> Value:
        """What is given for an input: bytes become real numbers first."""
        if value.dtype.is_floating and self.pixels is None:
            return value
        if value.dtype not in (tf.float32, tf.uint8, tf.int32):
            raise ConversionError(
                f"An input of the model is {value.dtype.name}, and C files take "
                "float32, int32 or uint8. Give keras.Input one of these as dtype."
            )
        kind = tf.uint8 if value.dtype.is_floating else value.dtype
        raw, numbers = Value(value.shape, kind), Value(value.shape, tf.float32)
        self._aliases[value], self.given[numbers] = numbers, value
        node = Copy("net/input/pixels", (raw,), (numbers,))
        if kind == tf.int32:
            line = f"whole_numbers({{0}}, {self.words(numbers)}, {{y}});"
            self._add(node, "whole_numbers", line)
            return raw
        steps = (1.0, 0.0) if self.pixels is None else self.pixels
        self._by_channel(node, "pixels", *steps, in_place=False)
        return raw

    def root(self, value: Value) -> Value:
        """The value whose numbers a value shares."""
        while value in self._aliases:
            value = self._aliases[value]
        return value

    def words(self, value: Value) -> int:
        """How many words of 32 bits a value takes."""
        *sizes, last = sizes_of(value) or (1,)
        return prod(sizes) * (-(-last // 32) if value in self.packed else last)

    def _check_sizes(self, node: Node) -> None:
        for value in (*node.reads, *node.makes):
            known = value.shape is not None and None not in value.shape
            if not known and self.program.readers(value):
                raise ConversionError(
                    f"Layer {layer_name(node.name)!r} reads or makes a map of unknown "
                    "size, and a C file has a place for each. Fix the size of the "
                    "input."
                )

    def _meeting(self, node: Any) -> Meeting:
        """What a kernel meets past the padding that becomes a part of it."""
        pad, x, around = self.program.maker(node.x, Pad), node.x, 0.0
        sides: Any = same_sides(node, x) if node.padding == "SAME" else None
        if pad is not None and node.padding == "VALID" and len(sizes_of(x)) == 4:
            known = pad.value == 0 or (node.binary and abs(pad.value) == 1)
            if known and not any((*pad.sides[0], *pad.sides[3])):
                sides, around, x = pad.sides, pad.value, pad.x
        binary = node.binary and node.of == "Conv2D" and node.groups == 1
        sign = self.program.maker(self.root(x), Sign) if binary else None
        return Meeting(x, (sides or [(0, 0)] * 4)[1:3], around, sign)

    def _reads(self, node: Node) -> Sequence[Value]:
        """The values that a node reads as numbers."""
        if isinstance(node, Kernel):
            met = self._met[node]
            return () if met.sign else (met.x,)
        return () if self._goes(node) else node.reads

    def _goes(self, node: Node) -> bool:
        """Whether nothing computes a node: a constant, or a part of what reads it."""
        if not isinstance(node, Pad) or self.program.is_output(node.y):
            return isinstance(node, Constant) or _renames(node)
        kernels = [self._met.get(reader) for reader in self.program.readers(node.y)]
        return all(met and met.x is node.x for met in kernels)

    def _read(self, node: Node) -> None:
        kind = _SAME.get(_kind(node), _kind(node))
        why = "which C files do not have"
        try:
            if kind in _MOVES:
                return self._moved(node)
            if kind in _FUNCTIONS:
                return self._map(node, kind, _FUNCTIONS[kind])
            if kind in _CALLS:
                return _CALLS[kind](self, node)
        except InvalidValue as error:
            why = f"which {error}"
        raise ConversionError(
            f"Layer {layer_name(node.name)!r} needs the operation {kind!r}, {why}. "
            "Write the layer with other operations, or convert for another runtime."
        )

    def constant(self, kind: str, name: str, numbers: Any) -> str:
        """Names a constant; equal ones are the same."""
        types = {"float": np.float32, "uint32_t": np.uint32}
        array = np.ascontiguousarray(numbers, types.get(kind, np.int32)).ravel()
        key = kind, array.tobytes()
        if key not in self._named:
            self._named[key] = f"{name}_{len(self.constants)}"
            self.constants[self._named[key]] = kind, array
            self._new.append(self._named[key])
        return self._named[key]

    def _floats(self, name: str, numbers: Any, count: int) -> str:
        return self.constant("float", name, np.broadcast_to(numbers, count))

    def _add(self, node: Node, function: str, *lines: str, **options: Any) -> None:
        """Adds a call of a node, which reads what it does, unless told otherwise."""
        given: dict[str, Any] = {"reads": node.reads, "y": node.y, **options}
        reads = tuple(self.root(x) for x in given.pop("reads"))
        new, self._new = self._new, []
        self.calls.append(Call(node, function, [*lines], reads, constants=new, **given))

    # --- functions that walk over maps: C of a map, with the numbers of its elements

    def _operand(self, node: Node, place: int, shape: Sequence[int]) -> Operand:
        value = node.reads[place]
        numbers = self.program.constant(value)
        C = f"{{{place}}}"
        if numbers is not None:
            C = self.constant("float", "numbers", numbers)
        return C, np.broadcast_to(_numbered(value), shape)

    def _walk(self, name: str, function: str, *operands: Operand) -> str:
        """C that makes the last operand of the one or two before it."""
        self.functions[name] = f"WALK({name}_each, {function})"
        a, b, y = operands[0], operands[-2], operands[-1]
        sizes, steps = loops(*(np.ravel(i) for _, i in (a, b, y)))
        if len(sizes) > _AXES:
            raise InvalidValue(f"walks along {len(sizes)} axes at once")
        fill = [0] * (_AXES - len(sizes))
        numbers = [[1] * len(fill) + sizes, *(fill + x for x in steps)]
        walk = self.constant("walk", "walk", numbers)
        starts = (f"{C} + {n}" if (n := np.ravel(i)[0]) else C for C, i in (a, b, y))
        return "{name}_each({}, {}, &{walk}, {});".format(*starts, name=name, walk=walk)

    def _map(self, node: Node, kind: str, function: str, *more: Operand) -> None:
        """A function of one map or of two, each with the numbers that meet."""
        y, name = _numbered(node.y), kind.lower()
        own = [self._operand(node, i, y.shape) for i, _ in enumerate(node.reads)]
        line = self._walk(name, function, *own, *more, ("{y}", y))
        self._add(node, name, line, in_place=True)

    def _filled(self, y: np.ndarray, number: float) -> str:
        one = self.constant("float", "numbers", [number]), 0 * y
        return self._walk("copy", "A", one, ("{y}", y))

    def _moved(self, node: Any) -> None:
        """What only moves numbers: each from where TensorFlow takes it."""
        reads = [x for x in node.reads if self.program.constant(x) is None]
        if any(not x.dtype.is_floating for x in reads):
            raise InvalidValue("moves whole numbers, which may say where")
        for y, ways in zip(node.makes, moves(self.program, node, reads), strict=True):
            if y not in self._numbers:
                continue
            lines = list[str]()
            if sum(np.size(to) for _, to, _ in ways) < self.words(y):
                around = node.value if isinstance(node, Pad) else 0.0
                lines.append(self._filled(_numbered(y), around))
            for place, to, of in ways:
                lines.append(self._walk("copy", "A", (f"{{{place}}}", of), ("{y}", to)))
            self._add(node, "copy", *lines, reads=reads, y=y)

    def _reduced(self, node: Any) -> None:
        start, function = _REDUCTIONS[node.type]
        axes, x = self.program.constant(node.reads[1]), ("{0}", _numbered(node.x))
        shape = [*x[1].shape]
        for axis in np.ravel(np.asarray(axes)):
            shape[axis] = 1
        y = "{y}", np.arange(prod(shape)).reshape(shape)
        count = x[1].size / y[1].size
        lines = [self._filled(y[1], start)]
        name, to = node.type.lower(), np.broadcast_to(y[1], x[1].shape)
        lines.append(self._walk(name, function, x, ("{y}", to)))
        if node.type == "Mean":
            part = self.constant("float", "numbers", [1 / count]), 0 * y[1]
            lines.append(self._walk("mul", "A * B", y, part, y))
        self._add(node, name, *lines, terms=count)

    def _select(self, node: Any) -> None:
        y = "{y}", _numbered(node.y)
        condition, yes, no = (self._operand(node, i, y[1].shape) for i in range(3))
        first = self._walk("copy", "A", no, y)
        last = self._walk("select", "A != 0 ? B : Y", condition, yes, y)
        self._add(node, "select", first, last)

    def _plus_last(self, node: Any) -> None:
        x = _numbered(node.x)
        own = (
            ("{0}", x[..., :-1]),
            ("{0}", np.broadcast_to(x[..., -1:], sizes_of(node.y))),
        )
        line = self._walk("addv2", "A + B", *own, ("{y}", _numbered(node.y)))
        self._add(node, "addv2", line)

    def _rest(self, node: Any) -> None:
        value = np.broadcast_to(node.value, sizes_of(node.y))
        most = self.constant("float", "most", value), _numbered(node.y)
        self._map(node, "rest", "B - A", most)

    def _take(self, node: Any) -> None:
        table, where, axis = map(self.program.constant, node.reads)
        if where is not None:
            return self._moved(node)
        if (
            table is None
            or axis is None
            or axis.any()
            or node.op.get_attr("batch_dims")
        ):
            raise InvalidValue("takes from no constant table, or not along its rows")
        rows = f"{self.constant('float', 'table', table)}, {len(table)}, {{1}}"
        n = self.words(self.root(node.reads[1]))
        line = f"take({rows}, {n}, {table[0].size}, {{y}});"
        self._add(node, "take", line)

    def _leaky_relu(self, node: Any) -> None:
        slope = node.op.get_attr("alpha")
        name = f"leaky_relu_{str(slope).replace('.', '_').replace('-', 'm')}"
        self._map(node, name, f"A > 0 ? A : {number(slope)} * A")

    def _cast(self, node: Any) -> None:
        function = "(float)(A != 0)" if node.y.dtype.is_bool else "truncf(A)"
        self._map(node, f"as_{node.y.dtype.name}", function)

    # --- the other functions of kernels.c

    def _by_channel(
        self, node: Node, function: str, *each: Any, **options: Any
    ) -> None:
        """A function of numbers per channel."""
        channels = node.y.channels or 1
        given = [self._floats(function, x, channels) for x in each]
        arguments = [f"{self.words(node.y) // channels}", f"{channels}", *given]
        line = f"{function}({{0}}, {', '.join(arguments)}, {{y}});"
        self._add(node, function, line, **{"in_place": True, **options})

    def _of_all(self, node: Node, function: str, *each: float) -> None:
        """A function of a few numbers, which are the same everywhere."""
        arguments = ", ".join([f"{self.words(node.y)}", *map(number, each)])
        line = f"{function}({{0}}, {arguments}, {{y}});"
        self._add(node, function, line, in_place=True)

    def _sign(self, node: Any) -> None:
        shift = np.broadcast_to(node.shift + 0.0, node.y.channels or 1)  # no -0
        if bits := self._bits.get(node.y):
            self._by_channel(node, "sign_bits", shift, y=bits, in_place=False)
        if node.y in self._numbers:
            places = _numbered(node.y) % len(shift)
            own = self._floats("shift", shift, len(shift)), places
            self._map(node, "larqs_sign", "A + B >= 0 ? 1 : -1", own)

    def _window(self, name: str, x: Any, y: Any, kernel: Any, **given: Any) -> str:
        """C of how a kernel lies on a map (N, H, W, C) to make another one."""
        own: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1)}
        own |= {"before": (0, 0), "around": 0, "groups": 1, **given}
        numbers = [*x, *y[1:], *kernel, *own["strides"], *own["dilations"]]
        numbers += [*own["before"], int(own["around"]), own["groups"]]
        return f"&{self.constant('window', name, numbers)}"

    def _kernel(self, node: Any) -> None:
        met, weights, name = self._met[node], np.asarray(node.weights), _name(node)
        x, y = sizes_of(met.x), sizes_of(node.y)
        if node.of == "MatMul":
            x, y, weights = (1, 1, *x), (1, 1, *y), weights[None, None]
        height, width, inner, last = weights.shape
        length, filters = height * width * inner, y[-1]
        scale, bias = (np.broadcast_to(x, filters) for x in (node.scale, node.bias))
        own = {n: getattr(node, n)[1:3] for n in ("strides", "dilations")}
        own |= {"before": [side[0] for side in met.sides], "around": met.around}
        own["groups"] = groups = node.groups
        start = f"({{0}}, {self._window(name, x, y, (height, width), **own)}"
        sums = np.abs(weights).reshape(length, last).sum(axis=0).max()
        options: dict[str, Any] = {"macs": prod(y[:-1]) * weights.size}
        options["terms"] = float(sums * np.abs(scale).max() + np.abs(bias).max())
        if met.sign is not None:
            options |= {"binary": True, "scratch": height * width * -(-inner // 32)}
            options["reads"] = (self._bits[met.sign.y],)
            return self._binary(node, start, weights, scale, bias, options)
        options["reads"], end = (
            (met.x,),
            f", {self._floats(f'bias_{name}', bias, filters)}",
        )
        split = _signs.split_kernel(weights) if self.small and groups == 1 else None
        if node.of == "DepthwiseConv2dNative":
            function = "depthwise_convolution"
            weights = weights.reshape(height, width, filters) * scale
        elif split is not None:
            function, options["scratch"] = "convolution_of_signs", length
            bits = packed(split[0].reshape(length, filters).T)
            start += f", {self.constant('uint32_t', f'kernel_{name}', bits)}"
            start += f", {self._floats(f'scale_{name}', scale * split[1], filters)}"
        else:
            function, weights = "convolution", weights * scale
            plain = length == inner and groups == 1 and not np.any(met.sides)
            plain = plain and tuple(own["strides"]) == (1, 1)
            options["scratch"] = 0 if plain else 4 * length
        if split is None or function == "depthwise_convolution":
            start += f", {self.constant('float', f'kernel_{name}', weights)}"
        if function != "depthwise_convolution":
            end += ", {scratch}" if options["scratch"] else ", 0"
        self._add(node, function, f"{function}{start}{end}, {{y}});", **options)

    def _binary(
        self,
        node: Any,
        start: str,
        weights: np.ndarray,
        scale: np.ndarray,
        bias: np.ndarray,
        options: dict[str, Any],
    ) -> None:
        """A binary convolution, with the sign of it if nothing else reads it."""
        sign, name = self.program.reader(node.y, Sign), _name(node)
        signs, size = weights * np.where(scale < 0, -1, 1), np.abs(scale)
        words = packed(signs.swapaxes(2, 3)).swapaxes(2, 3)
        start += f", {self.constant('uint32_t', f'kernel_{name}', words)}"
        if sign is not None and sign.y in self._bits and sign.y not in self._numbers:
            self._done.add(sign)
            most = int(np.prod(weights.shape[:-1]))
            least = thresholds(size, bias, sign.shift, most)
            function, options["y"] = "binary_convolution_sign", self._bits[sign.y]
            end = self.constant("int32_t", f"least_{name}", least)
        else:
            function, numbers = "binary_convolution", {"scale": size, "bias": bias}
            each = (self._floats(f"{k}_{name}", x, len(x)) for k, x in numbers.items())
            end = ", ".join(each)
        line = f"{function}{start}, {end}, {{scratch}}, {{y}});"
        self._add(node, function, line, **options)

    def _transposed(self, node: Any) -> None:
        op, weights = node.op, self.program.constant(node.reads[1])
        x, y = sizes_of(node.reads[2]), sizes_of(node.y)
        if weights is None or op.get_attr("data_format") != b"NHWC":
            raise InvalidValue("has no constant kernel, or channels first")
        own = self._padded(op, y, x, weights.shape[:2])
        bias = self._floats("bias", 0.0, y[-1])
        k = self.constant("float", f"kernel_{_name(node)}", weights)
        window = self._window(_name(node), x, y, weights.shape[:2], **own)
        line = f"transposed_convolution({{2}}, {window}, {k}, {bias}, {{y}});"
        options = {"macs": prod(x[:-1]) * weights.size, "terms": np.abs(weights).sum()}
        self._add(node, "transposed_convolution", line, **options)

    def _pool(self, node: Any) -> None:
        op, x, y = node.op, sizes_of(node.x), sizes_of(node.y)
        size = op.get_attr("ksize")[1:3]
        if (
            op.get_attr("padding") == b"EXPLICIT"
            or op.get_attr("data_format") != b"NHWC"
        ):
            raise InvalidValue("has padding of its own, or channels first")
        function = {"MaxPool": "max_pool"}.get(node.type, "average_pool")
        own = self._padded(op, x, y, size)
        window = self._window(_name(node), x, y, size, **own)
        self._add(node, function, f"{function}({{0}}, {window}, {{y}});")

    def _padded(self, op: Any, x: Any, y: Any, size: Any) -> dict[str, Any]:
        """Strides, dilations and "same" padding from a map x to a smaller one y."""
        strides, rates = op.get_attr("strides")[1:3], [1, 1]
        if "dilations" in op.node_def.attr:
            rates = op.get_attr("dilations")[1:3]
        axes = zip(x[1:3], y[1:3], size, strides, rates, strict=True)
        before = [
            max((m - 1) * s + (k - 1) * r + 1 - n, 0) // 2 for n, m, k, s, r in axes
        ]
        same = op.get_attr("padding") == b"SAME"
        return {
            "strides": strides,
            "dilations": rates,
            "before": before if same else (0, 0),
        }

    def _normalize(self, node: Any) -> None:
        op, (outer, *sizes) = node.op, sizes_of(node.x)
        if not op.get_attr("is_training"):
            raise InvalidValue("has statistics that are no constants")
        channels, inner = sizes[-1], 1
        if op.get_attr("data_format") == b"NCHW":
            channels, inner = sizes[0], prod(sizes[1:])
        each = (self._operand(node, i, (channels,))[0] for i in (1, 2))
        epsilon = number(op.get_attr("epsilon"))
        outer = self.words(node.x) // (channels * inner)
        arguments = f"{outer}, {channels}, {inner}, {', '.join(each)}, {epsilon}"
        line = f"normalize({{0}}, {arguments}, {{y}});"
        self._add(node, "normalize", line)

    def _product(self, node: Any) -> None:
        op, (x, z) = node.op, (sizes_of(value) for value in node.reads)
        flags = "transpose_a", "transpose_b", "adj_x", "adj_y"
        turned = any(op.get_attr(n) for n in flags if n in op.node_def.attr)
        if turned or x[:-2] != z[:-2]:
            raise InvalidValue("turns a matrix, or uses one several times")
        first, second = (self._operand(node, i, s)[0] for i, s in enumerate((x, z)))
        sizes = f"{prod(x[:-2])}, {x[-2]}, {x[-1]}, {z[-1]}"
        line = f"matrix_product({first}, {second}, {sizes}, {{y}});"
        options = {"macs": prod(x) * z[-1], "terms": float(x[-1])}
        self._add(node, "matrix_product", line, **options)


_CALLS: dict[str, Callable[[Calls, Any], None]] = {
    "affine": lambda calls, n: calls._by_channel(n, "affine", n.k, n.b),
    "prelu": lambda calls, n: calls._by_channel(n, "prelu", n.slope),
    "Softmax": lambda calls, n: calls._by_channel(n, "softmax"),
    "clip": lambda calls, n: calls._of_all(n, "clip", n.low, n.high),
    "levels": lambda calls, n: calls._of_all(
        n, "levels", n.low, n.high, n.step, n.zero
    ),
    "sign": Calls._sign,
    "kernel": Calls._kernel,
    "pluslast": Calls._plus_last,
    "rest": Calls._rest,
    "LeakyRelu": Calls._leaky_relu,
    "Cast": Calls._cast,
    "GatherV2": Calls._take,
    "SelectV2": Calls._select,
    "MaxPool": Calls._pool,
    "AvgPool": Calls._pool,
    "Conv2DBackpropInput": Calls._transposed,
    "FusedBatchNormV3": Calls._normalize,
    "MatMul": Calls._product,
    "BatchMatMulV2": Calls._product,
    **dict.fromkeys(_REDUCTIONS, Calls._reduced),
}


def _kind(node: Node) -> str:
    """The type of a TensorFlow operation, or that of a node in small letters."""
    return node.type or type(node).__name__.lower()


def _renames(node: Node) -> bool:
    """Whether what a node makes are the numbers that it reads."""
    if node.type == "Cast":
        y, x = node.y.dtype, node.x.dtype
        return y.is_floating or y == x or x.is_bool
    return node.is_reshape or _kind(node) in _NOTHING


def _name(node: Node) -> str:
    return re.sub(r"\W", "_", layer_name(node.name), flags=re.ASCII) or "layer"


def _numbered(value: Value) -> np.ndarray:
    """The numbers of the elements of a map."""
    return np.arange(prod(sizes_of(value))).reshape(sizes_of(value))


def type_of(value: Value) -> str:
    """The type of C of what is given for an input."""
    names = {tf.uint8: "uint8_t", tf.int32: "int32_t"}
    return names.get(value.dtype, "float")


def number(value: Any) -> str:
    """A float of C."""
    exact = float(np.float32(value))
    if not np.isfinite(exact):
        return "NAN" if np.isnan(exact) else "-INFINITY" if exact < 0 else "INFINITY"
    text = f"{exact:.9g}"
    return f"{text}{'' if {*text} & {*'.e'} else '.0'}f"


def packed(signs: np.ndarray) -> np.ndarray:
    """Signs along the last axis as words of 32 bits, the first in the lowest bit."""
    bits = np.packbits(signs > 0, axis=-1, bitorder="little")
    spare = [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 4)]
    return np.ascontiguousarray(np.pad(bits, spare)).view("<u4")


def thresholds(
    scale: np.ndarray, bias: np.ndarray, shift: np.ndarray, most: int
) -> np.ndarray:
    """Returns the least sums from -most to most of which signs are +1, per channel.

    That is where scale * sum + bias + shift >= 0 in float32; most + 1 if nowhere.
    """
    k, b, more = (np.asarray(x, np.float32) for x in (scale, bias, shift))
    with np.errstate(all="ignore"):
        near = np.nan_to_num(np.ceil(-(b.astype(float) + more) / k))
        sums = np.clip(near + np.arange(-2, 4)[:, None], -most, most + 1)
        sums = np.concatenate([np.full_like(sums[:1], -most), sums])
        above = (sums.astype(np.float32) * k + b) + more >= 0
    return np.where(above, sums, most + 1).min(axis=0).astype(np.int32)
