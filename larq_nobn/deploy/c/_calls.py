"""Turns the operations of a program into calls of the functions in kernels.c."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from ..._errors import InvalidValue
from ...graph import _signs
from .._errors import ConversionError
from ..operations._kinds import Constant, Copy, Kernel, Node, Pad, Sign, Value
from ..operations._moves import loops, moves, sizes_of
from ..operations._program import Program
from ..trace._operation_names import layer_name

# C functions of a node's inputs A, B and C; the last may be its own numbers per
# channel, and {low} is its attribute. A condition is 1.0f or 0.0f.
_FUNCTIONS = {
    "copy": "A",
    "affine": "B * A + C",
    "prelu": "(A > 0 ? A : 0) + B * (A < 0 ? A : 0)",
    "sign": "A + B >= 0 ? 1 : -1",
    "rest": "B - A",
    "clip": "A < {low} ? {low} : A > {high} ? {high} : A",
    "levels": "floorf(((A < {low} ? {low} : A > {high} ? {high} : A) - {low}) "
    "* (1 / {step}) - {zero} + 0.5f) * {step}",
    "Relu": "A > 0 ? A : 0",
    "Relu6": "A < 0 ? 0 : A > 6 ? 6 : A",
    "LeakyRelu": "A * (A > 0 ? 1 : {alpha})",
    "Elu": "A < 0 ? expm1f(A) : A",
    "Selu": "1.05070098f * (A < 0 ? 1.67326324f * expm1f(A) : A)",
    "Sigmoid": "1 / (1 + expf(-A))",
    "Softplus": "(A > 0 ? A : 0) + log1pf(expf(-fabsf(A)))",
    "Softsign": "A / (1 + fabsf(A))",
    "Rsqrt": "1 / sqrtf(A)",
    "Square": "A * A",
    "Reciprocal": "1 / A",
    "Abs": "fabsf(A)",
    "Neg": "-A",
    "Sign": "(float)((A > 0) - (A < 0))",
    "Round": "rintf(A)",
    "Cast": "truncf(A)",
    "Bucketize": "(float)(0{boundaries})",
    "LogicalNot": "(float)(A == 0)",
    "Maximum": "A > B ? A : B",
    "Minimum": "A < B ? A : B",
    "Pow": "powf(A, B)",
    "SquaredDifference": "(A - B) * (A - B)",
    "LogicalAnd": "(float)(A != 0 && B != 0)",
    "LogicalOr": "(float)(A != 0 || B != 0)",
    "SelectV2": "A != 0 ? B : C",
}
_FUNCTIONS |= {
    name: f"{name.lower()}f(A)"
    for name in ("Sqrt", "Exp", "Log", "Erf", "Erfc", "Tanh", "Floor")
}
_FUNCTIONS |= dict(AddV2="A + B", Sub="A - B", Mul="A * B", RealDiv="A / B")
_COMPARED = {"Greater": ">", "Less": "<", "Equal": "==", "NotEqual": "!="}
_COMPARED |= {"GreaterEqual": ">=", "LessEqual": "<="}
_FUNCTIONS |= {name: f"(float)(A {by} B)" for name, by in _COMPARED.items()}
_SAME = {"Add": "AddV2", "BiasAdd": "AddV2", "sum": "AddV2", "Select": "SelectV2"}
# The start of a reduction, and how the number Y so far changes with A.
_REDUCTIONS = {
    "Mean": (0.0, "Y + A"),
    "Variance": (0.0, "Y + (A - B) * (A - B)"),
    "Sum": (0.0, "Y + A"),
    "Max": (-np.inf, "Y > A ? Y : A"),
    "Min": (np.inf, "Y < A ? Y : A"),
    "Prod": (1.0, "Y * A"),
    "All": (1.0, "(float)(Y != 0 && A != 0)"),
    "Any": (0.0, "(float)(Y != 0 || A != 0)"),
}
# Operations that only move numbers, or add zeros.
_MOVES = {
    *("joined", "part", "pad", "Transpose", "Slice", "StridedSlice", "ConcatV2"),
    *("Pack", "Unpack", "Split", "SplitV", "Tile", "BroadcastTo", "Pad"),
    *("ResizeNearestNeighbor", "SpaceToBatchND", "BatchToSpaceND", "DepthToSpace"),
    *("SpaceToDepth", "ReverseV2", "MirrorPad"),
}
_AXES = 6
# C of a map, and an array of bytes that has the map's steps as its strides.
Operand = tuple[str, np.ndarray]


@dataclass(eq=False)
class Call:
    """One operation of a file, as calls of C functions.

    Attributes:
        node: The node that it computes, or the last one of several.
        function: The C function that does the work.
        lines: C, with {0}, {1}, ... for its inputs, and with {y} and {scratch}.
        reads, y: Values.
        scratch: The number of words of scratch memory that it needs.
        in_place: Whether `y` may overwrite one of its inputs.
        macs: Multiplications of one run of the file.
        terms: The magnitude of the terms of its sums for inputs of 1.
        binary: Whether its multiplications are of signs.
        constants: The names of the constants that it reads.
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


class Calls:
    """The calls that compute a program, and their constants.

    They are written from the last node to the first, so each node's readers are known.
    A sign that only binary kernels read is made as bits, by the kernel before it if
    that has no other reader. Nodes that no call reads are left out.

    Arguments:
        program: The program; all sizes are known.
        small: Whether real kernels with one magnitude per filter become bits.
        pixels: Scale and offset of each channel, if the only input is the bytes of an
            image.

    Attributes:
        calls: The calls in their order.
        constants: The C type and the numbers of each constant, by name.
        functions: Names of functions that macros make, by macro and argument.
        inputs, outputs: The values that callers pass, one for each of the program's.
        packed: The values that are signs as bits.
        same_as: For values that the program lacks, its values with the same numbers.
    """

    def __init__(
        self, program: Program, small: bool = False, pixels: Any = None
    ) -> None:
        self.program, self.small, self.pixels = program, small, pixels
        self.calls = list[Call]()
        self.constants = dict[str, tuple[str, np.ndarray]]()
        self.functions = dict[tuple[str, str], str]()
        self._named = dict[Any, str]()
        self.packed, self.same_as = set[Value](), dict[Value, Value]()
        self._wanted, self._bits = set[Value](), dict[Value, Value]()
        self._signed, self._used = dict[Value, Sign](), list[str]()
        self.outputs = list[Value]()
        for place, value in enumerate(program.outputs):
            self.outputs.append(self._output(place, self.root(value)))
        for node in reversed(program.nodes):
            self._write(node)
        self.inputs = [self._input(value) for value in program.inputs]
        self.calls.reverse()

    def _output(self, place: int, value: Value) -> Value:
        """Returns the value for an output: a copy where no call of its own makes it."""
        maker = self.program.maker(value)
        if maker is None or isinstance(maker, Constant) or value in self.outputs:
            copy = Copy(f"net/output/{place}", (value,), (value.like(),))
            self._map(copy, "copy")
            self.same_as[copy.y] = value
            return copy.y
        self._wanted.add(value)
        return value

    def _input(self, value: Value) -> Value:
        """Returns the value that a caller passes; whole numbers are converted first."""
        if value.dtype not in (tf.float32, tf.uint8, tf.int32):
            raise ConversionError(
                f"An input of the model is {value.dtype.name}, and C files take "
                "float32, int32 or uint8. Give keras.Input one of these as dtype."
            )
        if value.dtype.is_floating and self.pixels is None:
            return value
        raw = Value(value.shape, tf.uint8 if value.dtype.is_floating else value.dtype)
        steps = (1.0, 0.0) if self.pixels is None else self.pixels
        node = Copy("net/input/numbers", (raw,), (value,))
        kind = type_of(raw)
        name = self._function("WHOLE_NUMBERS", f"of_{kind}", kind)
        self._by_channel(node, name, *steps)
        return raw

    def root(self, value: Value) -> Value:
        """Returns the value whose numbers a value shares, such as before a reshape."""
        node = self.program.maker(value)
        if isinstance(node, Sign):
            return node.y
        return self.root(node.x) if node is not None and _renames(node) else value

    def words(self, value: Value) -> int:
        """Returns the number of 32-bit words that a value takes."""
        *sizes, last = sizes_of(value) or (1,)
        return prod(sizes) * (-(-last // 32) if value in self.packed else last)

    def _write(self, node: Node) -> None:
        """Adds the calls of a node, if something reads what it makes."""
        made = [x for x in node.makes if x in self._wanted or x in self._bits]
        if not made or isinstance(node, Constant):
            return
        if any(x.shape is None or None in x.shape for x in (*node.reads, *made)):
            raise ConversionError(
                f"Layer {layer_name(node.name)!r} reads or makes a map of unknown "
                "size, but C files have fixed places. Fix the size of the input."
            )
        kind = _SAME.get(_kind(node), _kind(node))
        why = "which C files do not have"
        try:
            if kind in _CALLS:
                return _CALLS[kind](self, node)
            if kind in _MOVES:
                return self._moved(node)
            if kind in _FUNCTIONS:
                return self._map(node, kind)
        except InvalidValue as error:
            why = f"which {error}"
        raise ConversionError(
            f"Layer {layer_name(node.name)!r} needs the operation {kind!r}, {why}. "
            "Write the layer with other operations, or convert for another runtime."
        )

    def constant(self, kind: str, name: str, numbers: Any) -> str:
        """Returns the name of a constant; equal constants share one."""
        types = {"float": np.float32, "uint32_t": np.uint32}
        array = np.ascontiguousarray(numbers, types.get(kind, np.int32)).ravel()
        key = kind, array.tobytes()
        if key not in self._named:
            self._named[key] = f"{name}_{len(self.constants)}"
            self.constants[self._named[key]] = kind, array
        self._used.append(self._named[key])
        return self._named[key]

    def _add(self, node: Node, function: str, *lines: str, **options: Any) -> None:
        """Adds a call with the inputs and output of a node, or of `options`."""
        fields: dict[str, Any] = {"reads": node.reads, "y": node.y, **options}
        reads = tuple(self.root(x) for x in fields.pop("reads"))
        self._wanted |= {*reads}
        used, self._used = self._used, []
        call = Call(node, function, [*lines], reads, constants=used, **fields)
        self.calls.append(call)

    # --- functions that walk over maps

    def _operand(self, node: Node, place: int) -> Operand:
        value = node.reads[place]
        numbers, C = self.program.constant(self.root(value)), f"{{{place}}}"
        if numbers is not None:
            C = self.constant("float", "numbers", numbers)
        return C, _map_of(sizes_of(value))

    def _walk(
        self, name: str, function: str, sizes: Sequence[int], *operands: Operand
    ) -> str:
        """Returns C that computes the last operand from the others, by elements."""
        *taken, y = operands
        taken = (3 * taken)[:3]
        steps = [np.broadcast_to(x, sizes).strides for _, x in (*taken, y)]
        axes = list[tuple[int, ...]]()
        for size, *step in zip(sizes, *steps, strict=True):
            if axes and axes[-1][1:] == tuple(size * n for n in step):
                axes[-1] = axes[-1][0] * size, *step
            elif size > 1:
                axes.append((size, *step))
        if len(axes) > _AXES:
            raise InvalidValue(f"walks along {len(axes)} axes at once")
        axes = [(1, 0, 0, 0, 0)] * (_AXES - len(axes)) + axes
        walk = self.constant("walk", "walk", [*zip(*axes, strict=True)])
        name = self._function("WALK", f"{name}_each", function)
        maps = ", ".join(C for C, _ in taken)
        return f"{name}({maps}, &{walk}, {y[0]});"

    def _function(self, macro: str, name: str, argument: str) -> str:
        """Returns the name of a function that a macro of kernels.c makes."""
        if name in self.functions.values():  # perhaps for another argument
            name = f"{name}_{len(self.functions)}"
        return self.functions.setdefault((macro, argument), name)

    def _map(self, node: Any, kind: str) -> None:
        """Adds an elementwise function of maps and of the node's own numbers."""
        y, function = _map_of(sizes_of(node.y)), _FUNCTIONS[kind]
        if node.type == "Cast" and node.y.dtype.is_bool:
            function = "(float)(A != 0)"
        own = [self._operand(node, i) for i, _ in enumerate(node.reads)]
        for name in node.reals or node.per_channel:
            numbers = np.asarray(getattr(node, name)) + 0.0  # no -0
            C = self.constant("float", name, numbers)
            own.append((C, _map_of(numbers.shape if numbers.size > 1 else ())))
        for name in re.findall(r"{(\w+)}", function):
            value = node.op.get_attr(name) if node.type else getattr(node, name)
            if isinstance(value, list):  # A is counted from each of them on
                text = "".join(f" + (A >= {number(each)})" for each in value)
            else:
                text = number(value)
            function = function.replace(f"{{{name}}}", text)
        line = self._walk(kind.lower(), function, y.shape, *own, ("{y}", y))
        self._add(node, kind.lower(), line, in_place=True)

    def _filled(self, C: str, sizes: Sequence[int], value: float) -> str:
        one = self.constant("float", "numbers", [value]), _map_of(())
        return self._walk("copy", "A", sizes, one, (C, _map_of(sizes)))

    def _moved(self, node: Any) -> None:
        """Adds copies for a node that only moves numbers, as TensorFlow moves them."""
        reads = [x for x in node.reads if self.program.constant(x) is None]
        if any(not x.dtype.is_floating for x in reads):
            raise InvalidValue("moves whole numbers, which may be indices")
        for y, ways in zip(node.makes, moves(self.program, node, reads), strict=True):
            if y not in self._wanted:
                continue
            lines = list[str]()
            if sum(len(to) for _, to, _ in ways) < self.words(y):
                around = node.value if isinstance(node, Pad) else 0.0
                lines.append(self._filled("{y}", sizes_of(y), around))
            for place, to, of in ways:
                sizes, steps = loops(of, to)
                x, z = (_map_of(sizes, own) for own in steps)
                ends = (f"{{{place}}} + {of[0]}", x), (f"{{y}} + {to[0]}", z)
                lines.append(self._walk("copy", "A", sizes, *ends))
            self._add(node, "copy", *lines, reads=reads, y=y)

    def _reduce(self, kind: str, x: Operand, *more: Operand) -> list[str]:
        """Returns C that reduces a map along the axes where the last operand is 1."""
        (start, function), (C, y) = _REDUCTIONS[kind], more[-1]
        lines = [self._filled(C, y.shape, start)]
        lines.append(self._walk(kind.lower(), function, x[1].shape, x, *more))
        if kind in ("Mean", "Variance"):
            part = self.constant("float", "numbers", [y.size / x[1].size]), _map_of(())
            lines.append(self._walk("mul", "A * B", y.shape, (C, y), part, (C, y)))
        return lines

    def _reduced(self, node: Any) -> None:
        x, axes = _map_of(sizes_of(node.x)), self.program.constant(node.reads[1])
        if axes is None:
            raise InvalidValue("has axes that are no constants")
        sizes = [*x.shape]
        for axis in np.ravel(axes):
            sizes[axis] = 1
        lines = self._reduce(node.type, ("{0}", x), ("{y}", _map_of(sizes)))
        terms = x.size / prod(sizes)
        self._add(node, node.type.lower(), *lines, terms=float(terms))

    def _softmax(self, node: Any) -> None:
        """Adds exp(x - max(x)) divided by its sum, for every row."""
        x = _map_of(sizes_of(node.x))
        own, y, row = ("{0}", x), ("{y}", x), ("{scratch}", x[..., :1].copy())
        lines = self._reduce("Max", own, row)
        lines.append(self._walk("exp", "expf(A - B)", x.shape, own, row, y))
        lines += self._reduce("Sum", y, row)
        lines.append(self._walk("realdiv", "A / B", x.shape, y, row, y))
        self._add(node, "softmax", *lines, scratch=row[1].size)

    def _normalized(self, node: Any) -> None:
        """Adds gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel."""
        op, x = node.op, _map_of(sizes_of(node.x))
        if not op.get_attr("is_training"):
            raise InvalidValue("has statistics that are no constants")
        axis = 1 if op.get_attr("data_format") == b"NCHW" else x.ndim - 1
        sizes = [n if i == axis else 1 for i, n in enumerate(x.shape)]
        each, count = _map_of(sizes), x.shape[axis]
        mean, variance = ("{scratch}", each), (f"{{scratch}} + {count}", each)
        gamma, beta = ((self._operand(node, i)[0], each) for i in (1, 2))
        own, y, epsilon = ("{0}", x), ("{y}", x), number(op.get_attr("epsilon"))
        lines = self._reduce("Mean", own, mean)
        lines += self._reduce("Variance", own, mean, variance)
        scaled = f"B / sqrtf(A + {epsilon})"
        lines += [
            self._walk("scale", scaled, sizes, variance, gamma, variance),
            self._walk("scaled", "(A - B) * C", x.shape, own, mean, variance, y),
            self._walk("addv2", "A + B", x.shape, y, beta, y),
        ]
        self._add(node, "normalize", *lines, scratch=2 * count)

    def _plus_last(self, node: Any) -> None:
        x, sizes = _map_of(sizes_of(node.x)), sizes_of(node.y)
        ends = ("{0}", x[..., :-1]), (f"{{0}} + {sizes[-1]}", x[..., -1:])
        line = self._walk("addv2", "A + B", sizes, *ends, ("{y}", _map_of(sizes)))
        self._add(node, "addv2", line)

    def _product(self, node: Any) -> None:
        """Adds sums of products along axes named by letters, such as of matrices."""
        op, sizes = node.op, dict[str, int]()
        (a, x), (b, z) = (self._operand(node, i) for i in (0, 1))
        y = _map_of(sizes_of(node.y))
        if node.type == "Einsum":
            names, _, made = op.get_attr("equation").decode().partition("->")
            first, _, second = names.partition(",")
        else:  # transposed or not, with or without axes of batches
            flags = ("transpose_a", "adj_x"), ("transpose_b", "adj_y")
            known = op.node_def.attr
            transposed = [any(n in known and op.get_attr(n) for n in x) for x in flags]
            axes, made = "ABCDEFGH"[: y.ndim - 2], "rc"
            first = axes[y.ndim - x.ndim :] + ("ir" if transposed[0] else "ri")
            second = axes[y.ndim - z.ndim :] + ("ci" if transposed[1] else "ic")
            made = axes + made
        if not first.isalpha() or not second.isalpha():
            raise InvalidValue("is not of two maps with a letter for each axis")
        for name, view in ((first, x), (second, z), (made, y)):
            sizes |= {n: m for n, m in zip(name, view.shape, strict=True) if m > 1}
        inner = "".join(n for n in sizes if n not in made)
        order = [n for n in made[:-1] + inner + made[-1:] if n in sizes]
        ends = [
            (C, _map_of([sizes[n] for n in order], _steps(name, view, order)))
            for C, name, view in ((a, first, x), (b, second, z), ("{y}", made, y))
        ]
        function, shape = "Y + A * B", ends[0][1].shape
        lines = [self._filled("{y}", y.shape, 0)]
        lines.append(self._walk("product", function, shape, *ends))
        terms = float(prod(sizes[n] for n in inner))
        self._add(node, "product", *lines, macs=prod(shape), terms=terms)

    # --- the other functions of kernels.c

    def _take(self, node: Any) -> None:
        table, where, axis = map(self.program.constant, node.reads)
        if where is not None:
            return self._moved(node)
        batched = node.op.get_attr("batch_dims")
        if table is None or axis is None or axis.any() or batched:
            raise InvalidValue("takes from no constant table, or not along its rows")
        rows = f"{self.constant('float', 'table', table)}, {len(table)}, {{1}}"
        n = self.words(self.root(node.reads[1]))
        line = f"take({rows}, {n}, {table[0].size}, {{y}});"
        self._add(node, "take", line)

    def _by_channel(
        self, node: Node, function: str, *each: Any, **options: Any
    ) -> None:
        """Adds a C function of rows and of numbers per channel."""
        *rows, channels = sizes_of(node.y) or (1,)
        own = [np.broadcast_to(x, channels) for x in each]
        names = [self.constant("float", function, x) for x in own]
        arguments = ", ".join(["{0}", f"{prod(rows)}", f"{channels}", *names, "{y}"])
        self._add(node, function, f"{function}({arguments});", **options)

    def _sign(self, node: Any) -> None:
        bits, kernel = self._bits.get(node.y), self.program.sole_maker(node.x, Kernel)
        if node.y in self._wanted:
            self._map(node, "sign")
        elif kernel is not None and self._meeting(kernel)[3] is not None:
            self._signed[kernel.y] = node
            return self._wanted.add(kernel.y)
        if bits is not None:
            self._by_channel(node, "sign_bits", node.shift + 0.0, y=bits)  # no -0

    def _meeting(self, node: Any) -> tuple[Value, Sequence[int], float, Sign | None]:
        """Returns the map that a kernel reads before padding that it can absorb.

        Also returns the padding, its number, and the sign of a binary kernel.
        """
        pad, x, around = self.program.maker(node.x, Pad), node.x, 0.0
        before: Sequence[int] = (0, 0)
        if pad is not None and node.padding == "VALID" and len(sizes_of(x)) == 4:
            known = pad.value == 0 or (node.binary and abs(pad.value) == 1)
            if known and not any((*pad.sides[0], *pad.sides[3])):
                before, around, x = [n for n, _ in pad.sides[1:3]], pad.value, pad.x
        elif node.padding == "SAME":
            lengths = node.weights.shape, node.strides[1:3], node.dilations[1:3]
            before = _before(sizes_of(x), sizes_of(node.y), *lengths)
        binary = node.binary and node.of == "Conv2D" and node.groups == 1
        sign = self.program.maker(self.root(x), Sign) if binary else None
        return x, before, around, sign

    def _window(self, name: str, x: Any, y: Any, *rest: Sequence[int]) -> str:
        """Returns C of how a kernel lies on a map (N, H, W, C) to make another one.

        `rest` is its size, strides, dilations, padding, number of padding, and groups.
        """
        numbers = np.concatenate([x, y[1:], *rest])
        return f"&{self.constant('window', name, numbers)}"

    def _kernel(self, node: Any) -> None:
        x, before, around, sign = self._meeting(node)
        weights, name = np.asarray(node.weights), _name(node)
        sizes, made = sizes_of(x), sizes_of(node.y)
        if node.of == "MatMul":
            sizes, made, weights = (1, 1, *sizes), (1, 1, *made), weights[None, None]
        scale, bias = (np.broadcast_to(n, made[-1]) for n in (node.scale, node.bias))
        sums = np.abs(weights).reshape(-1, weights.shape[-1]).sum(axis=0).max()
        terms = float(sums * np.abs(scale).max() + np.abs(bias).max())
        lengths = weights.shape[:2], node.strides[1:3], node.dilations[1:3]
        taps, depthwise = prod(weights.shape[:3]), node.of == "DepthwiseConv2dNative"
        small = self.small and node.groups == 1 and not depthwise
        split = _signs.split_kernel(weights) if small else None
        numbers: dict[str, Any] = {"bias": bias}  # arguments after the kernel
        y, scratch = node.y, None  # words of scratch; None for no such argument
        if sign is not None:
            function, words = "binary_convolution", -(-weights.shape[2] // 32)
            kernel = _packed_taps(weights * np.where(scale < 0, -1, 1))
            scratch = (1 if around else 2) * prod(weights.shape[:2]) * words
            numbers = {"scale": np.abs(scale), "bias": bias, "least": None}
            x = self._bits.setdefault(sign.y, sign.y.like())
            self.packed.add(x)
            self.same_as[x] = sign.y
            if (after := self._signed.get(y)) is not None:
                least = thresholds(numbers["scale"], bias, after.shift, taps)
                numbers = {"scale": None, "bias": None, "least": least}
                y = self._bits[after.y]
        elif depthwise:
            function = "depthwise_convolution"
            kernel = weights.reshape(*weights.shape[:2], -1) * scale
        elif split is not None:
            function, scratch = "convolution_of_signs", taps
            kernel = packed(split[0].reshape(taps, -1).T)
            numbers = {"scale": scale * split[1], "bias": bias}
        else:
            function, kernel = "convolution", weights * scale
            plain = {*lengths[0], *lengths[1], node.groups} == {1} and not any(before)
            scratch = 0 if plain and sizes[1:3] == made[1:3] else 4 * taps
        kind = "uint32_t" if kernel.dtype == np.uint32 else "float"
        arguments = [self.constant(kind, f"kernel_{name}", kernel)]
        for what, each in numbers.items():
            kind = "int32_t" if what == "least" else "float"
            own = f"{what}_{name}"
            arguments += ["0" if each is None else self.constant(kind, own, each)]
        if scratch is not None:
            arguments.append("{scratch}" if scratch else "0")
        rest = *lengths, before, (int(around), node.groups)
        arguments.insert(0, self._window(name, sizes, made, *rest))
        macs, binary = prod(made[:-1]) * weights.size, sign is not None
        options = dict(reads=(x,), y=y, macs=macs, terms=terms, binary=binary)
        line = f"{function}({{0}}, {', '.join(arguments)}, {{y}});"
        self._add(node, function, line, scratch=scratch or 0, **options)

    def _transposed(self, node: Any) -> None:
        weights, small = self.program.constant(node.reads[1]), node.reads[2]
        if weights is None:
            raise InvalidValue("has no constant kernel")
        x, y, name = sizes_of(small), sizes_of(node.y), _name(node)
        window = self._window(name, y, x, *_lengths(node.op, y, x, weights.shape))
        kernel = self.constant("float", f"kernel_{name}", weights)
        line = f"transposed_convolution({{0}}, {window}, {kernel}, {{y}});"
        terms = float(np.abs(weights).sum())
        options = {"macs": prod(x[:-1]) * weights.size, "terms": terms}
        self._add(node, "transposed_convolution", line, reads=[small], **options)

    def _pool(self, node: Any) -> None:
        x, y, size = sizes_of(node.x), sizes_of(node.y), node.op.get_attr("ksize")[1:3]
        function = {"MaxPool": "max_pool"}.get(node.type, "average_pool")
        window = self._window(function, x, y, *_lengths(node.op, x, y, size))
        self._add(node, function, f"{function}({{0}}, {window}, {{y}});")


_CALLS: dict[str, Callable[[Calls, Any], None]] = {
    "Softmax": Calls._softmax,
    "sign": Calls._sign,
    "kernel": Calls._kernel,
    "pluslast": Calls._plus_last,
    "GatherV2": Calls._take,
    "MaxPool": Calls._pool,
    "AvgPool": Calls._pool,
    "Conv2DBackpropInput": Calls._transposed,
    "FusedBatchNormV3": Calls._normalized,
    **dict.fromkeys(("MatMul", "BatchMatMulV2", "Einsum"), Calls._product),
    **dict.fromkeys(_REDUCTIONS, Calls._reduced),
}


def _kind(node: Node) -> str:
    """Returns the type of a TensorFlow operation, or of a node in small letters."""
    return node.type or type(node).__name__.lower()


def _renames(node: Node) -> bool:
    """Whether a node makes the very numbers that it reads."""
    if node.type == "Cast":
        y, x = node.y.dtype, node.x.dtype
        return y.is_floating or y == x or x.is_bool
    same = ("copy", "Identity", "StopGradient", "EnsureShape")
    return node.is_reshape or _kind(node) in same


def _name(node: Node) -> str:
    return re.sub(r"\W", "_", layer_name(node.name), flags=re.ASCII) or "layer"


def _map_of(sizes: Sequence[int], steps: Sequence[int] | None = None) -> np.ndarray:
    """Returns an array of bytes whose strides are a map's steps, or other steps."""
    if steps is None:
        return np.empty(tuple(sizes), np.int8)
    return np.lib.stride_tricks.as_strided(np.empty(1, np.int8), sizes, steps)


def _steps(names: str, x: np.ndarray, order: Sequence[str]) -> list[int]:
    """Returns the steps of a map along named axes; 0 along those that it lacks."""
    each = [*zip(names, x.shape, x.strides, strict=True)]
    return [sum(s for n, size, s in each if n == own and size > 1) for own in order]


def _before(x: Any, y: Any, size: Any, strides: Any, rates: Any) -> list[int]:
    """Returns the "same" padding before a map x (N, H, W, C); 0 for "valid"."""
    axes = zip(x[1:3], y[1:3], size[:2], strides, rates, strict=True)
    return [max((m - 1) * s + (k - 1) * r + 1 - n, 0) // 2 for n, m, k, s, r in axes]


def _lengths(op: Any, x: Any, y: Any, size: Any) -> tuple[Sequence[int], ...]:
    """Returns the arguments of `_window` for an operation from a map x to y."""
    if op.get_attr("padding") == b"EXPLICIT" or op.get_attr("data_format") != b"NHWC":
        raise InvalidValue("has padding of its own, or channels first")
    dilated = "dilations" in op.node_def.attr
    strides = op.get_attr("strides")[1:3]
    rates = op.get_attr("dilations")[1:3] if dilated else [1, 1]
    return size[:2], strides, rates, _before(x, y, size, strides, rates), (0, 1)


def type_of(value: Value) -> str:
    """Returns the C type of an input."""
    names = {tf.uint8: "uint8_t", tf.int32: "int32_t"}
    return names.get(value.dtype, "float")


def number(value: Any) -> str:
    """Returns a float literal of C."""
    exact = float(np.float32(value))
    if not np.isfinite(exact):
        return "NAN" if np.isnan(exact) else "-INFINITY" if exact < 0 else "INFINITY"
    text = f"{exact:.9g}"
    return f"{text}{'' if {*text} & {*'.e'} else '.0'}f"


def _packed_taps(signs: np.ndarray) -> np.ndarray:
    """Packs a kernel (H, W, C, out); a word contains as many taps as fit."""
    joined = max(32 // signs.shape[2], 1)
    taps = signs.reshape(-1, *signs.shape[2:])
    taps = np.pad(taps, [(0, -len(taps) % joined), (0, 0), (0, 0)])
    taps = taps.reshape(-1, joined * signs.shape[2], signs.shape[3]).swapaxes(1, 2)
    return packed(taps).swapaxes(1, 2)


def packed(signs: np.ndarray) -> np.ndarray:
    """Packs signs along the last axis into 32-bit words, the lowest bit first."""
    bits = np.packbits(signs > 0, axis=-1, bitorder="little")
    spare = [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 4)]
    return np.ascontiguousarray(np.pad(bits, spare)).view("<u4")


def thresholds(
    scale: np.ndarray, bias: np.ndarray, shift: np.ndarray, most: int
) -> np.ndarray:
    """Returns the least sum from -most to most, per channel, whose sign is +1.

    It is +1 where scale * sum + bias + shift >= 0 in float32; most + 1 if nowhere.
    """
    k, b, more = (np.asarray(x, np.float32) for x in (scale, bias, shift))
    sums = np.arange(-most, most + 1, dtype=np.float32)[:, None]
    above = (sums * k + b) + more >= 0  # True from some sum on
    return most + 1 - above.sum(axis=0, dtype=np.int32)
