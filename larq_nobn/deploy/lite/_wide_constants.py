"""Refuses constants that LCE would fuse into a binary convolution without looking.

LCE multiplies and adds what stands behind a binary convolution into its per-channel
multiplier and bias, whatever shape it has. Of shapes other than (C,) and scalars come
files that cannot run, files that compute something else (where bits are written and
factors differ in sign), and crashes of the converter. So this is looked for before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from .._errors import ConversionError

# Fused if the constant is the second, or the first where order does not matter.
_COMMUTE = ("Mul", "AddV2", "Add")
_FUSED = (*_COMMUTE, "Sub", "RealDiv")
# These are fused too, with constants of one per channel.
_NARROW = ("BiasAdd", "FusedBatchNormV3")
# Fused only with the convolution itself, padded with 1 or not at all; the last two if
# they amount to a ReLU.
_RECTIFIERS = ("Relu", "Relu6", "Maximum", "Minimum")
# They vanish.
_NOTHING = ("Identity", "StopGradient", "CheckNumerics", "BatchToSpaceND")
# Layers that are functions of TensorFlow's become calls, which LCE opens.
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_STORED = (*_CALLS, "ReadVariableOp")
_BEFORE = ("Identity", "IdentityN", "StopGradient", "PadV2", "Pad", "SpaceToBatchND")


def check_constants(graph: Any) -> None:
    """Checks what stands behind the binary convolutions of a traced function.

    Arguments:
        graph: Of a concrete function, its operations named 'model/layer/operation'.

    Raises:
        ConversionError: It names the layer, and the remedy.
    """
    moving = _moving(graph)
    for op in graph.get_operations():
        if op.type == "Conv2D" and _reads_sign(op):
            for behind, constant in _constants_behind(op, graph, moving):
                if (constant.shape.rank or 0) > 1:
                    _refuse(behind, constant)


def _refuse(op: Any, constant: Any) -> None:
    scopes = op.name.split("/")
    channels = op.outputs[0].shape[-1]
    raise ConversionError(
        f"Layer {scopes[min(1, len(scopes) - 1)]!r} computes with a constant of shape "
        f"{tuple(constant.shape)} behind a binary convolution, into which LCE fuses "
        f"it wrongly. Give the constant the shape ({channels},), or put a layer that "
        "is not fused between, such as PReLU."
    )


def _moving(graph: Any) -> set[str]:
    """The operations whose outputs depend on the inputs of the function."""
    captured = {id(tensor) for tensor in graph.internal_captures}
    found: set[str] = set()
    for op in graph.get_operations():  # each behind those that it depends on
        if op.type == "Placeholder":
            starts = id(op.outputs[0]) not in captured
        else:  # such as random numbers
            starts = op.op_def.is_stateful and op.type not in _STORED
        if starts or any(x.op.name in found for x in op.inputs):
            found.add(op.name)
    return found


def _reads_sign(op: Any) -> bool:
    source = op.inputs[0].op
    while source.type in _BEFORE:
        source = source.inputs[0].op
    return source.type in ("Sign", "SelectV2", "Select")


def _constants_behind(
    op: Any, graph: Any, moving: set[str]
) -> Iterator[tuple[Any, tf.Tensor]]:
    """Yields the operations that are fused into a convolution, and their constants."""
    ends = {id(tensor) for tensor in graph.outputs}
    bare = op.get_attr("padding") == b"VALID"
    while id(op.outputs[0]) not in ends:
        readers = [r for r in op.outputs[0].consumers() if r.name in moving]
        if len(readers) != 1:
            return
        op = readers[0]
        constants = [x for x in op.inputs if x.op.name not in moving]
        if op.type in _CALLS:
            yield from ((op, constant) for constant in _constants_inside(op, graph))
            return
        if len(op.inputs) == 2 and not constants:
            return  # two maps
        if op.type in _FUSED:
            if op.type not in _COMMUTE and constants[0] is op.inputs[0]:
                return
            yield op, constants[0]
        elif op.type not in (*_NARROW, *_NOTHING, *(_RECTIFIERS if bare else ())):
            return
        bare = bare and op.type in (*_RECTIFIERS, *_NOTHING)


def _constants_inside(call: Any, graph: Any) -> Iterator[tf.Tensor]:
    """Yields what a function called by a graph may add or multiply by."""
    inner = graph._get_function(call.get_attr("f").name).graph
    pairs = zip(call.inputs, inner.inputs, strict=True)
    stored = {id(own) for given, own in pairs if given.dtype == tf.resource}
    fixed = {x.op.name for x in inner.inputs if id(x) in stored}
    for op in inner.get_operations():
        if op.type != "Placeholder" and all(x.op.name in fixed for x in op.inputs):
            fixed.add(op.name)
        elif op.type in _FUSED:
            yield from (x for x in op.inputs if x.op.name in fixed)
