"""What LCE cannot binarize of a model that shows no layers, only operations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from ..._keras import keras
from ...graph import bits_of, split_kernel
from .._errors import ConversionError
from ..lite import Ports, Subgraph, Trace, TracedKernel
from ._limits import check_state, check_weights
from ._near_misses import FEW_BITS, all_quantizers, input_bits
from ._without_kernel import NoKernel, refuse, small_map

_TRANSPOSED = ("Conv2DBackpropInput", "Conv3DBackpropInputV2")
# And what says that they turn the first or the second of their matrices.
_MATRICES = {
    "MatMul": ("transpose_a", "transpose_b"),
    "BatchMatMulV2": ("adj_x", "adj_y"),
}


def check_float32(model: keras.Model, reason: ConversionError) -> None:
    """Refuses half precision where preparation cannot make float32 of it.

    Arguments:
        model: A functional model, whatever it holds.
        reason: Why it cannot be prepared.

    Raises:
        ConversionError: Which says that too.
    """
    for layer in model._flatten_layers(include_self=False):
        policy = layer.dtype_policy
        made = not isinstance(layer, keras.layers.InputLayer)
        if made and policy.compute_dtype in ("float16", "bfloat16"):
            raise ConversionError(
                f"{reason} Without that, layer {layer.name!r} would stay in "
                f"{policy.name}: build the model in float32 and give it these weights."
            ) from reason


def check_trace(
    model: keras.Model, trace: Trace, allow_float: bool
) -> tuple[list[str], list[str], list[NoKernel]]:
    """Returns what should be binary in a file of a trace, and what is float on request.

    Between these, the binary layers that compute what others do, which the converter
    merges.

    Arguments:
        model: The functional model that was traced, whatever it holds.
        trace: Its operations.
        allow_float: Whether layers without a binary kernel, and models without a
            binary layer, may pass.

    Raises:
        ConversionError: As `check_limits`.
    """
    # Those inside before those around them, which may have their names.
    layers: dict[str, keras.layers.Layer] = {}
    for layer in [*model._flatten_layers()][::-1]:
        layers.setdefault(layer.name, layer)
    for layer in layers.values():
        check_weights(layer, layer.name)
        check_state(layer)
    binary: list[str] = []
    merged: list[str] = []
    repeated = trace.repeated()
    uses: dict[str, list[TracedKernel]] = {}
    for kernel in trace.kernels():
        if _is_binary(kernel):
            _check_convolution(kernel)
            same = kernel.op.name in repeated
            (merged if same else binary).append(kernel.layer)
        elif _is_of_few_bits(kernel, layers.get(kernel.layer)):
            uses.setdefault(kernel.layer, []).append(kernel)
    for name in sorted(trace.layers() & layers.keys() - {*binary, *merged, *uses}):
        if _bits(layers[name]) < FEW_BITS:  # whose kernel no operation shows
            uses[name] = []
    lacking = [
        _lack(layers[name], found, trace.batch_size) for name, found in uses.items()
    ]
    if lacking and not allow_float:
        refuse(lacking, model.name)
    if not binary and not allow_float:
        raise ConversionError(
            f"Model {model.name!r} has no binary convolution. A QuantConv2D is one "
            "with an input_quantizer and a kernel_quantizer such as 'ste_sign'; "
            "allow_float=True converts a model without any."
        )
    return binary, merged, lacking


def merged_convolutions(
    graph: Subgraph, prepared: keras.Model, ports: Ports, expected: Sequence[str]
) -> list[str]:
    """Names binary convolutions that a file has once for several of a model.

    The converter merges those of equal signs in input and kernel, whatever is behind.

    Arguments:
        graph: The file.
        prepared: The model that it was made from.
        ports: What both take and give.
        expected: The names of the binary convolutions of the model.
    """
    lacking = len(expected) - sum(op.op == "LceBconv2d" for op in graph.operations)
    if lacking <= 0:
        return []
    trace = Trace(prepared, ports)
    repeated = trace.repeated()
    found = [k for k in trace.kernels() if _is_binary(k) and k.op.name in repeated]
    left, names = list(expected), []
    for kernel in found[:lacking]:
        # Of a part of a layer the trace does not know the name.
        name = kernel.layer if kernel.layer in left else left[-1]
        left.remove(name)
        names.append(name)
    return names


def _is_binary(kernel: TracedKernel) -> bool:
    """Whether LCE should find a binary convolution here."""
    if kernel.op.type != "Conv2D" or not kernel.signs or kernel.pad not in (None, 1.0):
        return False
    return split_kernel(kernel.kernel) is not None and bool(kernel.kernel.all())


def _is_of_few_bits(kernel: TracedKernel, layer: keras.layers.Layer | None) -> bool:
    return layer is not None and _bits(layer, kernel.signs) < FEW_BITS


def _bits(layer: keras.layers.Layer, signs: bool = False) -> int:
    """Of the larger one of input and kernel, as far as the layer itself says."""
    kernels = [bits_of(quantizer) for quantizer in all_quantizers(layer)]
    bits = 1 if signs else input_bits(getattr(layer, "input_quantizer", None))
    return max(bits, min(kernels, default=32))


def _lack(
    layer: keras.layers.Layer, uses: Sequence[TracedKernel], batch_size: int
) -> NoKernel:
    kind = type(layer).__name__
    weights = sum(math.prod(weight.shape) for weight in layer.weights)
    # A layer may have two kernels, and each of them several uses.
    sizes = {(use.op.type, use.kernel.shape): use.kernel.size for use in uses}
    return NoKernel(
        layer=layer.name,
        kind=kind,
        finding=f"Layer {layer.name!r} ({kind}) is of few bits, and LCE has no binary "
        "kernel for it as it stands",
        remedy="Use a QuantConv2D with signs for both, padded with 1 or 0, or leave "
        "its input or its kernel unquantized.",
        macs=sum(map(_macs, uses)) // batch_size or weights,
        bytes=4 * (sum(sizes.values()) or weights),
    )


def _macs(use: TracedKernel) -> int:
    """Multiply-accumulates for a whole batch; 0 where no shape says how many."""
    op, kernel = use.op, use.kernel
    shape = (op.inputs[2] if op.type in _TRANSPOSED else op.outputs[0]).shape
    if not shape.is_fully_defined():
        return 0
    if op.type not in _MATRICES:
        return kernel.size * math.prod(shape[:-1])
    second = op.inputs[1].op.type == "Const"
    turned = op.get_attr(_MATRICES[op.type][second])
    # The axis that is summed over is the last of the first matrix.
    axis = -2 if second != turned else -1
    return kernel.shape[axis] * math.prod(shape)


def _check_convolution(kernel: TracedKernel) -> None:
    op, size = kernel.op, kernel.op.inputs[0].shape[1:3]
    dilation = op.get_attr("dilations")[1:3]
    before = op.inputs[0].op
    if before.type == "SpaceToBatchND":  # the map in parts, and zeros around it
        size = before.inputs[0].shape[1:3]
        dilation = tf.make_ndarray(before.inputs[1].op.get_attr("value"))
    elif op.get_attr("padding") != b"SAME":
        return
    found = small_map(kernel.layer, size, kernel.kernel.shape[:2], dilation)
    if found is not None:
        # There is no one_padding without preparation.
        raise ConversionError(f"{found.finding}. Use pad_values=1.0, or larger images.")
