"""What conversion left in float in a `.tflite` file, and why.

LCE binarizes plain 2D convolutions of signs with ±c, and computes whatever comes close
in float, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tensorflow.lite.python.schema_py_generated import ActivationFunctionType

from .._float_fallback import FloatFallback, Why
from ..lite._file import FileOperation, Subgraph, Tensor

# What is said of a file that larq_nobn has not written, or of a user's own layer.
GROUPS = (
    "Convert the model with larq_nobn.convert, which writes a QuantConv2D in groups as "
    "one binary convolution for each."
)
# How a finding starts that is about a layer of bits.
_BINARY = "Binary in the model, float in the file: "
# Where each operation has its input; its filters are always second. The last axis of a
# depthwise filter are the output channels, the first axis of the others.
_INPUTS = {
    "CONV_2D": 0,
    "DEPTHWISE_CONV_2D": 0,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 2,
}
_WITHOUT_KERNEL = {
    "DEPTHWISE_CONV_2D": (
        "depthwise convolution",
        "Use a QuantConv2D, or leave its input or its kernel unquantized.",
    ),
    "TRANSPOSE_CONV": (
        "transposed convolution",
        "Use upsampling and a QuantConv2D, or leave its input or kernel unquantized.",
    ),
    "FULLY_CONNECTED": (
        "dense layer",
        "larq_nobn.convert writes a QuantDense as a binary convolution of size 1. In a "
        "layer of your own, write Reshape((1, 1, -1)), a QuantConv2D with kernel size "
        "1 and Flatten(), or leave its input or its kernel unquantized.",
    ),
}
# LCE calls weights ±c if they are that close to it, and so does this file.
_TOLERANCE = 0.005
# Weights that were meant to be ±c are closer to it than any that were not.
_MEANT = 0.05
# Of fewer weights per channel, chance may make all equal.
_ENOUGH = 8
_SIGNS = ("LceDequantize", "SIGN")
_BETWEEN = ("MUL", "DIV", "PAD", "PADV2", "MIRROR_PAD", "RESHAPE", "SPACE_TO_BATCH_ND")


def float_in_file(graph: Subgraph) -> Iterator[FloatFallback]:
    """Yields what conversion left in float, with its cost for one run of the file."""
    for op in graph.operations:
        finding, remedy = stayed_float(graph, op) or ("", "")
        if finding.startswith(_BINARY):
            finding, size = finding.removeprefix(_BINARY), op.input(1).bytes
            name = graph.layer(op)
            yield FloatFallback(name, op.op, finding, remedy, op.macs, size)


def stayed_float(graph: Subgraph, op: FileOperation) -> Why | None:
    """Returns a float operation that reads signs, or whose weights are ±c."""
    filters = op.inputs[1] if op.op in _INPUTS and len(op.inputs) > 1 else None
    if filters is None or filters.dtype != "float32" or filters.sparse:
        return None
    between: list[str] = []
    source = graph.before(op, _INPUTS[op.op])
    while source is not None and source.op in _BETWEEN:
        between.append(source.op)
        source = graph.before(source)
    if not filters.constant:
        of_signs = source is not None and source.op in _SIGNS
        if not of_signs or not _is_of_constants(graph, filters):
            return None
        return (
            f"{_BINARY}its kernel is computed again in every run",
            "Convert the model with larq_nobn.convert, which computes kernels once.",
        )
    axis = -1 if op.op == "DEPTHWISE_CONV_2D" else 0
    weights = np.abs(np.moveaxis(filters.values, axis, 0))
    weights = weights.reshape(len(weights), -1)
    if weights.shape[1] < _ENOUGH:
        return None
    binary = _is_binary(weights, _TOLERANCE)
    if source is None or source.op not in _SIGNS:
        if not binary or (source is not None and _saturates(source)):
            return None
        return (
            "Its weights are ±c, but stored as floats, as its input is not binary",
            "Real-valued weights would cost the same: use them, or give it a binary "
            "input_quantizer.",
        )
    largest = weights.max(axis=1, keepdims=True)
    ternary = np.all((weights == 0) | (weights >= (1 - _MEANT) * largest))
    if not binary and ternary and np.any(weights == 0):
        return (
            f"{_BINARY}some of its weights are 0",
            "Use a kernel_quantizer that never gives 0, such as 'ste_sign'.",
        )
    if not binary and _is_binary(weights, _MEANT):
        return (
            f"{_BINARY}its weights miss ±c by more than 0.5 %",
            "Use a kernel_quantizer that gives exactly ±c for each output channel.",
        )
    if not binary:
        return (
            "Its input is binary and its kernel is not, so it computes in float",
            "Give it a binary kernel_quantizer, or leave out the sign before it.",
        )
    if source.op == "SIGN":
        return (
            f"{_BINARY}LCE does not know this sign",
            "Take the sign with larq.math.sign or a quantizer of Larq.",
        )
    if op.op in _WITHOUT_KERNEL:
        name, remedy = _WITHOUT_KERNEL[op.op]
        return f"{_BINARY}LCE has no kernel for a binary {name}", remedy
    if op.input(0).shape[-1] != op.input(1).shape[-1]:
        return f"{_BINARY}a binary convolution in groups", GROUPS
    if between:
        return (
            f"{_BINARY}{between[-1]} stands between the convolution and its sign",
            "Let the sign go straight into the convolution, padded with 1 or not at "
            "all.",
        )
    return (
        f"{_BINARY}a binary convolution",
        "Convert the model with larq_nobn.convert, which names the cause.",
    )


def _is_of_constants(graph: Subgraph, tensor: Tensor) -> bool:
    """Whether a tensor depends on no input of its graph."""
    left, seen = [tensor], set[int]()
    while left:
        read = left.pop()
        maker = graph.producer(read)
        if maker is None and not read.constant:
            return False
        if maker is not None and read.index not in seen:
            seen.add(read.index)
            left += [x for x in maker.inputs if x is not None]
    return True


def _saturates(op: FileOperation) -> bool:
    """Whether an operation may be the sign of a file that has no binary kernels."""
    activation = op.options.get("fused_activation_function")
    ends = activation == ActivationFunctionType.RELU_N1_TO_1
    return op.op == "DEPTHWISE_CONV_2D" and ends


def _is_binary(sizes: np.ndarray, tolerance: float) -> bool:
    """Whether magnitudes are nearly those of the first of their row."""
    first = sizes[:, :1]
    near = (sizes >= (1 - tolerance) * first) & (sizes <= (1 + tolerance) * first)
    return bool(np.all(near & (sizes > 0)))
