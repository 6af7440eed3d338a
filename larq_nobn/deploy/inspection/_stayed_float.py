"""Findings about layers that are binary in training and float in the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..lite import Operation
from ._chain import Chain, values
from ._saving_rules import GROUPS, Saving
from ._work import macs

# How a finding starts that is about a layer of bits.
BINARY = "Binary in the model, float in the file"

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
_BETWEEN = ("MUL", "DIV", "PAD", "PADV2", "MIRROR_PAD", "RESHAPE", "SPACE_TO_BATCH_ND")


def stayed_float(chain: Chain, op: Operation) -> Saving | None:
    """A float operation that reads signs, or whose weights are ±c."""
    filters = op.inputs[1] if op.op in _INPUTS and len(op.inputs) > 1 else None
    if filters is None or filters.dtype != "float32" or not filters.constant:
        return None
    if filters.sparse:
        return None
    axis = -1 if op.op == "DEPTHWISE_CONV_2D" else 0
    weights = np.moveaxis(values(filters), axis, 0)
    weights = weights.reshape(len(weights), -1)
    if weights.shape[1] < _ENOUGH:
        return None
    source, between = _source(chain, op)
    found = None
    if source is not None and source.op in ("LceDequantize", "SIGN"):
        found = _reason(op, source, between, weights)
    elif _is_binary(weights, _TOLERANCE):
        found = (
            "Its weights are ±c, but stored as floats, as its input is not binary.",
            "Give it a binary input_quantizer, or real weights for the same price.",
        )
    return None if found is None else Saving(chain.layer(op), *found)


def binary_in_model(chain: Chain) -> Iterator[dict[str, Any]]:
    """Yields what conversion left in float, with its cost for one run of the file."""
    for op in chain.operations:
        found = stayed_float(chain, op)
        if found is not None and found.finding.startswith(BINARY):
            filters = op.inputs[1]
            assert filters is not None
            yield {
                "layer": found.layer,
                "kind": op.op,
                "finding": found.finding.removeprefix(f"{BINARY}: ").rstrip("."),
                "remedy": found.remedy,
                "macs": macs(op),
                "bytes": filters.bytes,
            }


def _source(chain: Chain, op: Operation) -> tuple[Operation | None, list[str]]:
    """Returns where the input comes from, and what stands between."""
    between: list[str] = []
    source = chain.producer(op, _INPUTS[op.op])
    while source is not None and source.op in _BETWEEN:
        between.append(source.op)
        source = chain.producer(source)
    return source, between


def _reason(
    op: Operation, source: Operation, between: list[str], weights: np.ndarray
) -> tuple[str, str]:
    binary = _is_binary(weights, _TOLERANCE)
    if not binary and np.any(weights == 0) and _is_ternary(weights):
        return (
            f"{BINARY}: some of its weights are 0.",
            "Use a kernel_quantizer that never gives 0, such as 'ste_sign'.",
        )
    if not binary and _is_binary(weights, _MEANT):
        return (
            f"{BINARY}: its weights miss ±c by more than 0.5 %.",
            "Use a kernel_quantizer that gives exactly ±c for each output channel.",
        )
    if not binary:
        return (
            "Its input is binary and its kernel is not, so it computes in float.",
            "Give it a binary kernel_quantizer, or leave out the sign in front of it.",
        )
    if source.op == "SIGN":
        return (
            f"{BINARY}: LCE does not know this sign.",
            "Take the sign with larq.math.sign or a quantizer of Larq.",
        )
    if op.op in _WITHOUT_KERNEL:
        name, remedy = _WITHOUT_KERNEL[op.op]
        return f"{BINARY}: LCE has no kernel for a binary {name}.", remedy
    image, filters = op.inputs[0], op.inputs[1]
    assert image is not None and filters is not None
    if image.shape[-1] != filters.shape[-1]:
        return f"{BINARY}: a binary convolution in groups.", GROUPS
    if between:
        return (
            f"{BINARY}: {between[-1]} stands between the convolution and its sign.",
            "Let the sign go straight into the convolution, padded with 1 or not at "
            "all.",
        )
    return (
        f"{BINARY}: a binary convolution.",
        "Convert the model with larq_nobn.convert, which names the cause.",
    )


def _is_binary(weights: np.ndarray, tolerance: float) -> bool:
    size = np.abs(weights)
    first = size[:, :1]
    near = (size >= (1 - tolerance) * first) & (size <= (1 + tolerance) * first)
    return bool(np.all(near & (size > 0)))


def _is_ternary(weights: np.ndarray) -> bool:
    size = np.abs(weights)
    largest = size.max(axis=1, keepdims=True)
    return bool(np.all((size == 0) | (size >= (1 - _MEANT) * largest)))
