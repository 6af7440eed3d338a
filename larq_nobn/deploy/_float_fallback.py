"""What was meant to be binary and stays float in a file, and why.

LCE has binary kernels for plain 2D convolutions of signs with ±c, and computes whatever
comes close in float, without a word. There is one kind of finding, and a reader for
each form in which a network is known: `float_layers` reads a Keras model,
`float_in_trace` the operations that TensorFlow made of one, `float_in_file` a `.tflite`
file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from tensorflow.lite.python.schema_py_generated import ActivationFunctionType

from .._keras import keras
from .._larq import lq
from ..graph import (
    _graph,
    _kinds,
    _operation,
    _signs,
)
from . import _binary
from .lite._file import FileOperation, Subgraph, Tensor
from .lite._trace import Trace, TracedKernel

_layers = keras.layers


# A finding, as a sentence without its period, and what to do.
Why = tuple[str, str]


@dataclass(frozen=True)
class FloatFallback:
    """A layer that is binary, or of few bits, in the model, and float in a file.

    Attributes:
        layer: Its name.
        kind: Its class, or the operation that it is in a file.
        finding: Why, as a sentence without its period.
        remedy: What to do.
        macs: Multiply-accumulates for one example (of a file: one run), all in float.
        bytes: Of its kernels as floats; in bits they would take a 32nd.
    """

    layer: str
    kind: str
    finding: str
    remedy: str
    macs: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        cost = f"{self.macs:,} MACs and {self.bytes:,} bytes in float"
        return f"{self.finding} ({cost}). {self.remedy}"


# --- layers of a Keras model

# Networks of few bits; more are the business of 8-bit kernels.
FEW_BITS = 8
# Random examples that tell signs from other numbers.
_FEW = 3
# What a function of the user's should be.
_NO_SIGN = "while LCE's sign is -1 below 0 and +1 from 0 on, number by number"
_LOCAL = (_layers.LocallyConnected1D, _layers.LocallyConnected2D)


def float_layers(model: keras.Model) -> list[FloatFallback]:
    """Lists the layers of a functional model that have no binary kernel in LCE.

    The work of a layer that is used more than once is that of its uses that lack a
    kernel.
    """
    fallbacks: dict[str, FloatFallback] = {}
    for call in _graph.calls(model):
        why = _why_float(call)
        if why is None:
            continue
        name, kind = call.name, type(call.layer).__name__
        macs, size = _cost(call)
        macs += fallbacks[name].macs if name in fallbacks else 0
        fallbacks[name] = FloatFallback(name, kind, *why, macs, size)
    return list(fallbacks.values())


def _why_float(call: _graph.Call) -> Why | None:
    """Says why a call that was meant to be binary has no binary kernel in LCE.

    None for a binary convolution that has one, and for whatever is float in the model.
    """
    layer, label = call.layer, call.label
    if _binary.binary_parts(call):
        if _binary.is_zero_one(_binary.sign_of_kernel_input(call)):
            return None
        other = _other_value(call)
        if other is not None:
            return (
                f"The input quantizer of layer {label!r} gives {other:g}, but LCE "
                "binarizes to -1 and +1 only",
                "Use a sign, such as 'approx_sign', or larq.math.sign, which is +1 at "
                "0.",
            )
        return None
    kernels = _kernel_bits(call)
    if _binary.sign_of_kernel_input(call) is not None and 1 in kernels:
        return _other_kernel(call)
    if not kernels:
        return None
    quantizer = getattr(layer, "input_quantizer", None)
    finding = _signs.sign_finding(quantizer)
    if finding and min(kernels) < FEW_BITS:
        return (
            f"The input quantizer of layer {label!r} {finding}, {_NO_SIGN}",
            "Use a quantizer of Larq such as 'ste_sign', or a function that returns "
            "larq.math.sign(x) as it is, with a gradient by tf.custom_gradient; a "
            "class of signs with thresholds of their own needs precision = 1.",
        )
    bits = 1 if _signs.has_sign_input(call) else input_bits(quantizer)
    if max(bits, min(kernels)) < FEW_BITS:
        return (
            f"Layer {label!r} has inputs of {bits} bit and a kernel of {min(kernels)} "
            "bit, for which LCE has no kernel",
            "Use signs for both, such as 'ste_sign', or leave one of them unquantized.",
        )
    own = quantizer is not None and not isinstance(quantizer, lq.quantizers.NoOp)
    return None if own or min(kernels) != 1 else _stands_between(call)


def _kernel_bits(call: _graph.Call) -> list[int]:
    """Returns the precision of each kernel that meets the input of a call."""
    return [
        _binary.kernel_bits(call.operation, name)
        for name, quantizer in _operation.KERNELS.items()
        if name != "pointwise_kernel"
        and getattr(call.layer, quantizer, None) is not None
    ]


def are_signs(values: np.ndarray) -> bool:
    """Whether numbers are of both signs and one size, but for those that are 0."""
    sizes = np.unique(np.abs(values[values != 0]))
    return len(sizes) == 1 and values.min() < 0 < values.max()


def _other_value(call: _graph.Call) -> float | None:
    """Returns a number that an input quantizer gives and that is not -1 or +1."""
    quantizer = getattr(call.layer, "input_quantizer", None)
    if quantizer is None or isinstance(quantizer, lq.quantizers.NoOp):
        return None
    channels = call.first_input.shape[-1]
    probe = np.repeat(np.linspace(-3, 3, 13, dtype=np.float32), channels)
    shape = (1,) * (call.first_input.shape.rank - 2) + (13, channels)
    values = np.unique(np.asarray(quantizer(probe.reshape(shape))))
    return next((x for x in values if x not in (-1, 1)), None)


def _other_kernel(call: _graph.Call) -> Why:
    """Why a kernel that is meant for signs has no counterpart in LCE."""
    layer, kind = call.layer, type(call.layer).__name__
    if isinstance(layer, _binary.RESHAPED) and not _kinds.is_channels_last(layer):
        return (
            f"Layer {call.label!r} has data_format={layer.data_format!r}, but LCE "
            "knows 'channels_last' only",
            "Build the model with that.",
        )
    known = isinstance(layer, (lq.layers.QuantConv2D, *_binary.RESHAPED))
    if known and not _signs.has_binary_kernel(call.operation):
        kernel = _signs.kernel_value(layer.kernel)
        zeros = int(np.sum(kernel == 0))
        some = f" (zero weights: {zeros:,} of {kernel.size:,})" if zeros else ""
        return (
            f"The kernel of layer {call.label!r} is not ±c with one c per output "
            f"channel{some}, which is all that LCE can binarize",
            "Use a kernel_quantizer such as 'ste_sign', or set its input_quantizer to "
            "None to keep it float.",
        )
    remedy = "Use a QuantConv2D"
    if isinstance(layer, lq.layers.QuantDense):
        remedy = (
            "Write it as Reshape((1, 1, -1)), a QuantConv2D with kernel size 1 and "
            "Flatten()"
        )
    if isinstance(layer, (lq.layers.QuantConv1D, lq.layers.QuantLocallyConnected1D)):
        remedy = (
            "Write it as Reshape((1, length, channels)) and a QuantConv2D with kernel "
            "size (1, size)"
        )
    return (
        f"Layer {call.label!r} is a binary {kind}, for which LCE has no binary kernel",
        f"{remedy}, or leave its input or its kernel unquantized.",
    )


def _stands_between(call: _graph.Call) -> Why | None:
    """Says what stands between a sign and the binary kernel that it is for."""
    remedy = f"Give {call.label!r} an input_quantizer such as 'ste_sign'"
    # Each tensor once: through residual sums, the number of paths grows exponentially.
    left, seen = list(call.reads), set()
    while left:
        tensor = left.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        layer, index, _ = tensor._keras_history
        node = layer.inbound_nodes[index]
        # An operator such as * stands for a layer, whose symbol it is.
        symbol = _kinds.symbol_of(layer).split(".")[-1]
        if _is_larqs_sign(tensor):
            continue
        finding = (
            "gives 0 at 0" if symbol == "sign" else _signs.sign_finding_of_layer(layer)
        )
        if finding:
            return (
                f"Layer {layer.name!r} takes the sign for layer {call.label!r}, but "
                f"{finding}, {_NO_SIGN}",
                f"{remedy} instead.",
            )
        operator = hasattr(layer, "symbol") and len(node.keras_inputs) == 1
        known = _kinds.inherited(type(layer))
        if not operator and not (known.binary or known.idle):
            continue
        if any(_signs.sign_of_tensor(x) is not None for x in node.keras_inputs):
            return (
                f"Layer {layer.name!r} ({type(layer).__name__}) stands between a sign "
                f"and layer {call.label!r}, which makes that a float convolution",
                f"{remedy}.",
            )
        left += node.keras_inputs
    return None


def _is_larqs_sign(tensor: Any) -> bool:
    """Whether a tensor is sign(sign(x) + c), as `larq.math.sign` makes it."""
    for symbol in ("sign", "add", "sign"):
        layer, index, _ = tensor._keras_history
        if _kinds.symbol_of(layer).split(".")[-1] != symbol:
            return False
        tensor = layer.inbound_nodes[index].keras_inputs[0]
    return True


def _cost(call: _graph.Call) -> tuple[int, int]:
    """Multiply-accumulates for one example, and bytes of the kernels as floats."""
    layer = call.layer
    kernels = [getattr(layer, name, None) for name in _operation.KERNELS]
    weights = sum(math.prod(kernel.shape) for kernel in kernels if kernel is not None)
    # How often each weight is used; of what no shape tells, once. A transposed
    # convolution spreads every input, the others gather every output.
    spreads = _kinds.inherited(type(layer)).kernels is _kinds.TRANSPOSED
    end = call.first_input if spreads else call.first_output
    first = getattr(layer, "data_format", None) == "channels_first"
    sizes = end.shape[2:] if first else end.shape[1:-1]
    places = 1 if isinstance(layer, _LOCAL) else math.prod(size or 1 for size in sizes)
    return weights * places, 4 * weights


def why_none_is_binary(model: keras.Model) -> str:
    """Says what the Larq convolutions of a model lack, by name."""
    no_input, no_kernel = [], []
    for call in _graph.calls(model):
        for layer in call.layer._flatten_layers():
            if not isinstance(layer, lq.layers.QuantConv2D):
                continue
            inner = "" if layer is call.layer else f"/{layer.name}"
            name = repr(call.label + inner)
            if not (
                _signs.has_sign_input(call) or _signs.is_binary(layer.input_quantizer)
            ):
                no_input.append(name)
            if _signs.bits_of(layer.kernel_quantizer) != 1:
                no_kernel.append(name)
    said = []
    if no_input:
        said.append(f"no sign before {', '.join(no_input)}")
    if no_kernel:
        said.append(f"no binary kernel in {', '.join(no_kernel)}")
    return " and ".join(said) or "it contains no QuantConv2D"


def input_bits(quantizer: Any) -> int:
    """Returns the precision of what a quantizer gives; 32 for a marker."""
    marker = isinstance(quantizer, lq.quantizers.NoOp)
    return 32 if marker else _signs.bits_of(quantizer)


def bits_of_layer(layer: keras.layers.Layer, signs: bool) -> int:
    """Returns the larger precision of input and kernel that a layer itself shows."""
    kernels = [
        _signs.bits_of_kernel(
            quantizer, partial(_signs.kernel_value, getattr(layer, kernel, None))
        )
        for kernel, name in _operation.KERNELS.items()
        if (quantizer := getattr(layer, name, None)) is not None
    ]
    bits = 1 if signs else input_bits(getattr(layer, "input_quantizer", None))
    return max(bits, min(kernels, default=32))


# --- operations of a trace

_BACKWARD = ("Conv2DBackpropInput", "Conv3DBackpropInputV2")
# And what says that they turn the first or the second of their matrices.
_MATRICES = {
    "MatMul": ("transpose_a", "transpose_b"),
    "BatchMatMulV2": ("adj_x", "adj_y"),
}


def float_in_trace(
    trace: Trace,
    binary: Sequence[str],
    layers: Mapping[str, keras.layers.Layer],
) -> list[FloatFallback]:
    """Lists the layers of few bits of a model of which only operations are known."""
    uses: dict[str, list[TracedKernel]] = {}
    fallbacks = []
    known = set(binary)
    few = [
        x
        for x in trace.kernels
        if x.layer not in known
        and x.layer in layers
        and bits_of_layer(layers[x.layer], signs=True) < FEW_BITS
    ]
    # Where the kernel alone is of few bits, its input decides.
    asked = [x for x in few if bits_of_layer(layers[x.layer], x.signs) >= FEW_BITS]
    values = trace.values([x.read for x in asked]) if asked else []
    pairs = zip(asked, values, strict=True)
    real = {x.op.name for x, read in pairs if not are_signs(read)}
    for kernel in few:
        if kernel.op.name not in real:
            uses.setdefault(kernel.layer, []).append(kernel)
    for name in sorted(trace.layers() & layers.keys() - {*known, *uses}):
        # No operation shows the kernel of these.
        if bits_of_layer(layers[name], signs=False) < FEW_BITS:
            uses[name] = []
    for name, own_uses in uses.items():
        layer, kind = layers[name], type(layers[name]).__name__
        weights = sum(math.prod(weight.shape) for weight in layer.weights)
        # A layer may have two kernels, and each of them several uses.
        sizes = {(use.op.type, use.kernel.shape): use.kernel.size for use in own_uses}
        fallback = FloatFallback(
            layer=name,
            kind=kind,
            finding=f"Layer {name!r} ({kind}) is of few bits, and LCE has no binary "
            "kernel for it as it stands",
            remedy="Use a QuantConv2D with signs for both, padded with 1 or 0, or "
            "leave its input or its kernel unquantized.",
            macs=sum(map(_macs, own_uses)) // trace.batch_size or weights,
            bytes=4 * (sum(sizes.values()) or weights),
        )
        fallbacks.append(fallback)
    return fallbacks


def _macs(use: TracedKernel) -> int:
    """Multiply-accumulates for a whole batch; 0 where no shape says how many."""
    op, kernel = use.op, use.kernel
    shape = (op.inputs[2] if op.type in _BACKWARD else op.outputs[0]).shape
    if not shape.is_fully_defined():
        return 0
    if op.type not in _MATRICES:
        return kernel.size * math.prod(shape[:-1])
    second = op.inputs[1].op.type == "Const"
    transposed = op.get_attr(_MATRICES[op.type][second])
    # The axis that is summed over is the last of the first matrix.
    axis = -2 if second != transposed else -1
    return kernel.shape[axis] * math.prod(shape)


# --- operations of a file

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
