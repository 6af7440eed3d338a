"""A program as a function of tensors, spelled as LCE's converter reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..._larq import lq
from ...layers._rprelu import spelled_prelu
from ..lite import _lce_faults
from ..trace._form import LARGE, Form, Number
from ._program import Node, Program, Value


def outputs_of(
    program: Program, inputs: Sequence[Any], more: Sequence[Value] = ()
) -> list[Any]:
    """Computes a program, inside a TensorFlow function.

    Arguments:
        program: The program.
        inputs: A tensor for each of its inputs.
        more: Values whose tensors are returned after the outputs.
    """
    tensors = _tensors_of(program, inputs)
    return [tensors[value] for value in (*program.outputs, *more)]


def _tensors_of(program: Program, inputs: Sequence[Any]) -> dict[Value, Any]:
    tensors = dict(zip(program.inputs, inputs, strict=True))
    for node in program.nodes:
        made = _computed(node, [tensors[value] for value in node.reads])
        tensors.update(zip(node.makes, made, strict=False))
    return tensors


def with_variables(program: Program) -> Program:
    """Returns a program whose large numbers are variables, as a file is written from.

    Constants would be copied a dozen times on the way.
    """
    nodes = []
    for node in program.nodes:
        large = ((name, x) for name, x in _reals(node) if x.size >= LARGE)
        own = {name: tf.Variable(x, trainable=False) for name, x in large}
        nodes.append(node.with_arguments(**own))
    return Program(program.inputs, nodes, program.outputs)


def form_of(
    program: Program,
    count: int | None = None,
    value_of: Callable[[Any], Value] = lambda value: value,
) -> Form:
    """Returns what runs a program, and shows its values.

    Arguments:
        program: The program.
        count: How many of its outputs are those of the network; None for all.
        value_of: The value that a tensor is which it is asked for.
    """
    numbers = dict[Any, Number]()
    with tf.Graph().as_default():
        starts = [tf.compat.v1.placeholder(x.dtype, x.shape) for x in program.inputs]
        nodes = [_with_numbers(node, numbers) for node in program.nodes]
        whole = Program(program.inputs, nodes, program.outputs)
        tensors = _tensors_of(whole, starts)
    ends = [tensors[value] for value in program.outputs[:count]]
    return Form(starts, ends, lambda x: tensors[value_of(x)], numbers)


# Of the noise, what counts of weights have: 4 float32 epsilons where others have 32.
_OF_COUNTS = 1 / 8
# The numbers of a node.
_NUMBERS = ("bias", "value", "k", "b", "kernel", "scale", "slope")


def _reals(node: Node) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the real numbers of a node by their names, as it computes with them."""
    for name in _NUMBERS:
        given = np.asarray(node.arguments.get(name))
        if given.dtype.kind == "f":
            kind = given.dtype if node.kind == "constant" else np.float32
            yield name, given.astype(kind, copy=False)


def _with_numbers(node: Node, numbers: dict[Any, Number]) -> Node:
    """Returns a node whose real numbers are tensors, and notes them.

    LCE subtracts the bits that differ from all there are, after both are scaled, so a
    binary convolution rounds as the number of its weights does.
    """
    own = {}
    for name, value in _reals(node):
        reach: np.ndarray | None = value
        if node.arguments.get("binary") and name in ("kernel", "bias"):
            most = np.prod(node["kernel"].shape[:-1]) * np.asarray(node["scale"], float)
            reach = _OF_COUNTS * most if name == "bias" else None
        if value.size < LARGE:
            own[name] = tf.constant(value)
        else:
            own[name] = tf.compat.v1.placeholder(value.dtype, value.shape)
        numbers[own[name]] = value, reach
    return node.with_arguments(**own)


def _computed(node: Node, x: list[Any]) -> list[Any]:
    if node.kind == "other":
        return _again(node, x)
    scope, _, name = node.name.rpartition("/")
    with tf.name_scope(f"{scope}/" if scope else ""):
        made = _KINDS[node.kind](node, name, *x)
    return made if isinstance(made, list) else [made]


def _again(node: Node, x: list[Any]) -> list[Any]:
    """A TensorFlow operation as it is, of other tensors."""
    op, graph_def = node["op"], tf.compat.v1.GraphDef()
    if op.type == "Softplus" and node.y.dtype == tf.float32:
        with tf.name_scope(f"{op.name}/"):
            return [_lce_faults.bounded_softplus(x[0])]
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
    # Of rank 1: LCE fuses other constants into a file that cannot run.
    return tf.convert_to_tensor(value, tf.float32)


def _scaled(x: Any, k: Any, b: Any, name: str) -> Any:
    if tf.is_tensor(k) or np.any(k != 1):
        x = tf.multiply(x, _numbers(k), name=f"{name}_scale")
    if tf.is_tensor(b) or np.any(b):
        x = tf.add(x, _numbers(b), name=name)
    return x


def _sizes(value: Value) -> list[int]:
    return [-1 if size is None else size for size in value.shape or ()]


def _sign(node: Node, name: str, x: Any) -> list[Any]:
    if "quantizer" in node.arguments:
        return _in_shapes(node, node["quantizer"](tf.add(x, _numbers(node["shift"]))))
    if not np.any(node["shift"]) and "compared" not in node.arguments:
        return _in_shapes(node, lq.math.sign(x))
    # Larq's spelling of a sign is sign(sign(x) + 0.1), for which LCE would take a
    # shifted sign of a sign too, and drop the shift.
    above = tf.add(x, _numbers(node["shift"])) >= 0
    return _in_shapes(node, tf.where(above, 1.0, -1.0, name=name))


def _in_shapes(node: Node, y: Any) -> list[Any]:
    """One tensor in the shapes of all that a node makes."""
    return [y, *(tf.reshape(y, _sizes(value)) for value in node.makes[1:])]


def _saturating(node: Node, name: str, x: Any) -> list[Any]:
    """sign(x + shift) of multiplications that saturate, which every runtime has.

    Of numbers in steps of s it is one 1x1 depthwise convolution, clip(4/s * x + 2 -
    4g/s, -1, 1), where g is the least number in steps that becomes +1: a step is 4, so
    that all saturate, and half a step decides. Of float32 numbers, 2^100 x saturates
    before that, but for those below 2^-100. A converter may multiply a kernel before it
    by that, whose sums must not overflow.
    """
    shift, step, sides = node["shift"], node["step"], node["padding"]
    shape, moved = x.shape, np.any(shift)
    with tf.name_scope(name):
        if shape.rank != 4:
            x = tf.reshape(x, (-1, 1, math.prod(shape[1:-1]), shape[-1]))
        if step is None and moved:
            x = x + _numbers(shift)
        # sign(0) is +1: the border of a map is made by zeros, unless they are shifted.
        late = step is not None and moved
        if sides is not None and not late:
            x = tf.pad(x, [(0, 0), *sides, (0, 0)])
        if step is None:
            x = tf.clip_by_value(x * np.float32(2.0**100), -1.0, 1.0)
        least = np.ceil(np.round(-shift / step, 6)) if late else np.zeros(())
        kernel = np.full((1, 1, shape[-1], 1), 4 / (step or 1.0), np.float32)
        y = tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")
        y = tf.clip_by_value(y + np.float32(2 - 4 * least), -1.0, 1.0)
        if step is not None:  # a range in which ±1 are exact
            y = tf.quantization.fake_quant_with_min_max_vars(y, -128 / 127, 1.0)
        if sides is not None and late:
            y = tf.pad(y, [(0, 0), *sides, (0, 0)], constant_values=1.0)
        if shape.rank != 4:
            y = tf.reshape(y, (-1, *shape[1:]))
        if sides is None:
            return _in_shapes(node, y)
        (top, bottom), (left, right) = sides
        rows, columns = y.shape[1] - bottom, y.shape[2] - right
        return [y, *_in_shapes(node, y[:, top:rows, left:columns])]


def _range(node: Node, name: str, x: Any) -> Any:
    low, high = tf.constant(node["low"]), tf.constant(node["high"])
    y = tf.quantization.fake_quant_with_min_max_vars(x, low, high, name=name)
    # Always y: past a selection converters move no reshape, which would stay float.
    return tf.where(high > low, y, x, name=f"{name}_selected")


def _levels(node: Node, name: str, x: Any) -> Any:
    # In the order of TensorFlow's kernel, so that ties go to the same side.
    low, step = node["low"], node["step"]
    places = (tf.clip_by_value(x, low, node["high"]) - low) * (1 / step) - node["zero"]
    return tf.multiply(tf.floor(places + 0.5), step, name=name)


def _clip(node: Node, name: str, x: Any) -> Any:
    low, high = ends = node["low"], node["high"]
    if ends == (0.0, np.inf):
        return tf.nn.relu(x, name=name)
    if ends == (0.0, 6.0):
        return tf.nn.relu6(x, name=name)
    return tf.clip_by_value(x, low, high, name=name)


def _summed(node: Node, name: str, x: Any) -> Any:
    """max(x, 0) + slope * min(x, 0) in int8, of operations that delegates have.

    Of the two summands one is 0, and the first is on the grid of x, so that only the
    second and the sum are rounded. Where no slope is negative, the second is slope * x
    in a range that ends at 0.
    """
    rounded = tf.quantization.fake_quant_with_min_max_vars

    def scaled(x: Any, slope: np.ndarray) -> Any:
        kernel = _numbers(slope.reshape(1, 1, -1, 1))
        return tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")

    # A ReLU of its own is nothing that delegates have in int8.
    slope, rest, (low, high) = node["slope"], x, node["range_after"]
    positive = rounded(tf.nn.relu(scaled(x, np.ones_like(slope))), *node["ends"])
    if np.min(slope) < 0:
        rest = rounded(x - positive, *node["ends"])
    else:
        high = 0.0
    return tf.add(positive, rounded(scaled(rest, slope), low, high), name=name)


def _kernel(node: Node, name: str, x: Any) -> Any:
    kernel, rates = _numbers(node["kernel"]), node["dilations"]
    options = {"strides": node["strides"], "padding": node["padding"], "name": name}
    if node["of"] == "MatMul":
        y = tf.matmul(x, kernel, name=name)
    elif node["of"] == "Conv2D":
        y = tf.nn.conv2d(x, kernel, **options, dilations=rates)
    else:
        y = tf.nn.depthwise_conv2d(x, kernel, **options, dilations=rates[1:3])
    return _scaled(y, node["scale"], node["bias"], f"{name}_affine")


# What nodes compute, of what they read.
_KINDS: dict[str, Any] = {
    "constant": lambda node, name: tf.convert_to_tensor(node["value"], name=name),
    "affine": lambda node, name, x: _scaled(x, node["k"], node["b"], name),
    "sum": lambda node, name, x, y: tf.add(x, y, name=name),
    "reshape": lambda node, name, x: tf.reshape(x, _sizes(node.y), name=name),
    "pad": lambda node, name, x: tf.pad(
        x, node["sides"], constant_values=node["value"], name=name
    ),
    "joined": lambda node, name, *parts: tf.concat(parts, -1, name=name),
    "channels": lambda node, name, x: x[..., node["of"]],
    "plus_last": lambda node, name, x: tf.add(x[..., :-1], x[..., -1:], name=name),
    "rest": lambda node, name, x: tf.subtract(node["value"], x, name=name),
    "sign": _sign,
    "saturating": _saturating,
    "range": _range,
    "levels": _levels,
    "clip": _clip,
    # Which LCE does not merge.
    "copy": lambda node, name, x: tf.maximum(x, x, name=name),
    "summed": _summed,
    "prelu": lambda node, name, x: spelled_prelu(x, _numbers(node["slope"])),
    "kernel": _kernel,
}
