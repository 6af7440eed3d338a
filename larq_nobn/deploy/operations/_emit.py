"""A program as a function of tensors, spelled as LCE's converter reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..._larq import lq
from ...layers._inference import SaturatingSign
from ...layers._rprelu import spelled_prelu
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
    tensors = {
        id(value): tensor for value, tensor in zip(program.inputs, inputs, strict=True)
    }
    for node in program.nodes:
        made = _computed(node, [tensors[id(value)] for value in node.reads])
        tensors.update((id(x), y) for x, y in zip(node.makes, made, strict=False))
    return [tensors[id(value)] for value in (*program.outputs, *more)]


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


def _numbers(value: np.ndarray) -> tf.Tensor:
    # Of rank 1: LCE fuses other constants into a file that cannot run.
    return tf.constant(value, tf.float32)


def _scaled(x: Any, k: np.ndarray, b: np.ndarray, name: str) -> Any:
    if np.any(k != 1):
        x = tf.multiply(x, _numbers(k), name=f"{name}_scale")
    return tf.add(x, _numbers(b), name=name) if np.any(b) else x


def _constant(node: Node, name: str) -> Any:
    return tf.constant(node["value"], name=name)


def _affine(node: Node, name: str, x: Any) -> Any:
    return _scaled(x, node["k"], node["b"], name)


def _sum(node: Node, name: str, x: Any, y: Any) -> Any:
    return tf.add(x, y, name=name)


def _reshape(node: Node, name: str, x: Any) -> Any:
    return tf.reshape(x, _sizes(node.y), name=name)


def _sizes(value: Value) -> list[int]:
    return [-1 if size is None else size for size in value.shape or ()]


def _pad(node: Node, name: str, x: Any) -> Any:
    return tf.pad(x, node["sides"], constant_values=1.0, name=name)


def _rest(node: Node, name: str, x: Any) -> Any:
    return tf.subtract(tf.constant(node["value"]), x, name=name)


def _sign(node: Node, name: str, x: Any) -> list[Any]:
    if not np.any(node["shift"]) and not node["compared"]:
        return _in_shapes(node, lq.math.sign(x))
    # Larq's spelling of a sign is sign(sign(x) + 0.1), for which LCE would take a
    # shifted sign of a sign too, and drop the shift.
    above = tf.add(x, _numbers(node["shift"])) >= 0
    return _in_shapes(node, tf.where(above, 1.0, -1.0, name=name))


def _in_shapes(node: Node, y: Any) -> list[Any]:
    """One tensor in the shapes of all that a node makes."""
    return [y, *(tf.reshape(y, _sizes(value)) for value in node.makes[1:])]


def _saturating(node: Node, name: str, x: Any) -> list[Any]:
    padding = node["padding"]
    y = SaturatingSign(node["shift"], False, None, padding, name=name)(x)
    if padding is None:
        return _in_shapes(node, y)
    (top, bottom), (left, right) = padding
    rows, columns = y.shape[1] - bottom, y.shape[2] - right
    return [y, *_in_shapes(node, y[:, top:rows, left:columns])]


def _prelu(node: Node, name: str, x: Any) -> Any:
    return spelled_prelu(x, _numbers(node["slope"]))


def _kernel(node: Node, name: str, x: Any) -> Any:
    kernel = _numbers(node["kernel"])
    if node["of"] == "MatMul":
        y = tf.matmul(x, kernel, name=name)
    else:
        options = {"strides": node["strides"], "padding": node["padding"]}
        dilations = node["dilations"]
        if node["of"] == "Conv2D":
            y = tf.nn.conv2d(x, kernel, **options, dilations=dilations, name=name)
        else:
            rate = dilations[1:3]
            y = tf.nn.depthwise_conv2d(x, kernel, **options, dilations=rate, name=name)
    return _scaled(y, node["scale"], node["bias"], f"{name}_affine")


_KINDS: dict[str, Any] = {
    "constant": _constant,
    "affine": _affine,
    "sum": _sum,
    "reshape": _reshape,
    "pad": _pad,
    "rest": _rest,
    "sign": _sign,
    "saturating": _saturating,
    "prelu": _prelu,
    "kernel": _kernel,
}
