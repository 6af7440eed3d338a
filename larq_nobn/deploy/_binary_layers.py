"""Finds what was meant to be binary, whether it is, and why not, in models and files.

LCE has binary kernels for plain 2D convolutions of signs with ±c, and silently computes
similar layers in float. So a float convolution or matrix product is named if its kernel
has two values per output channel, and its input at most two. The kernel
shows its values. The input is judged by the operations before it: without a step, such
as a threshold or rounding, it may have any number of values. With a step, its values in
the examples of the verification are counted. Layers of a few bits, which LCE computes
in float, too, are known by their quantizers.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ..graph import _models, _operation, _signs
from ._errors import ConversionError
from ._opening import in_float32, opened, with_known_sizes
from .lite._converter import io_spec
from .lite._file import CHANNELS, FileOperation, Subgraph
from .operations import Stages, stages_of
from .trace._constants import constant
from .trace._operation_names import layer_name, layer_of, layers_by_name
from .trace._signs import NOTHING, RESHAPES, sign_taken_by
from .trace._trace import INPUTS, Trace, TracedKernel

# A finding, as a sentence without its period, and a remedy.
Why = tuple[str, str]
# Layers of fewer bits are named here; 8 bits are those of ordinary int8 files.
FEW_BITS = 8
# Operations that reduce many values to few, and functions, which are opaque.
_STEPS = re.compile(
    "Sign|Greater|Less|Equal|Round|Rint|Floor|Ceil|ArgM|Bucketize|Partitioned|While|If"
)
_MOVES = ("GatherV2", "Slice", "StridedSlice", "ReverseV2", "Tile", "Roll", "ConcatV2")
_POOLS = ("MaxPool", "AvgPool", "Mean", "Max", "SpaceToDepth", "DepthToSpace")
_PADS = ("Pad", "PadV2", "MirrorPad", "SpaceToBatchND", "BatchToSpaceND")
_HANDS_ON = {*NOTHING, *RESHAPES, *_MOVES, *_POOLS, *_PADS, "Split", "SplitV"}
# Numbers count as equal up to this fraction of the largest.
_EQUAL = 1e-5


@dataclass(frozen=True)
class FloatFallback:
    """A layer that is binary, or of few bits, in the model, and float in a file.

    `kind` is its class, or its operation in a file. `finding` is a sentence without its
    period. `macs` are those of one example, or in a file those of one run, and `bytes`
    those of its kernels as floats.
    """

    layer: str
    kind: str
    finding: str
    remedy: str
    macs: int
    bytes: int

    def __str__(self) -> str:
        cost = f"{self.macs:,} MACs and {self.bytes:,} bytes in float"
        return f"{self.finding} ({cost}). {self.remedy}"


# --- of models


def binary_layers(model: keras.Model) -> list[str]:
    """Lists the binary convolutions that a converted model should contain.

    Arguments:
        model: A built Larq model.

    Returns:
        The names of convolutions and dense layers whose input and kernel both have two
        values (up to a scale per output channel), in the order of the network. A name
        appears once for every use, and for every group of a convolution in groups.

    Raises:
        ConversionError: If `model` is not a built model, or cannot be traced.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        len(nobn.deploy.binary_layers(model))  # 16
        ```
    """
    given, _ = opened(with_known_sizes(model, None, None))
    stages = stages_of(Trace(in_float32(given), io_spec(given)), "lce")
    return [*map(layer_name, stages.binary)]


def check_model(model: keras.Model) -> None:
    """Rejects layers that would be converted wrongly or not at all, naming them."""
    if getattr(model, "_is_graph_network", False):
        _models.check_inference(model)
    for layer in layers_by_name(model).values():
        label, kind = repr(layer.name), type(layer).__name__
        if isinstance(layer, keras.Model):
            continue
        for weight in layer.weights:
            floats = tf.as_dtype(weight.dtype).is_floating
            if floats and np.isnan(tf.cast(weight, tf.float32)).any():
                raise ConversionError(
                    f"Weight {weight.name!r} of layer {label} contains NaN: training "
                    "diverged. Convert an earlier state of the model."
                )
        if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
            raise ConversionError(
                f"The recurrent layer {label} ({kind}) has stateful=True: it resumes "
                "where the previous call ended, while a file starts over in every run. "
                "Build it with stateful=False, and pass it whole sequences."
            )
        first = getattr(layer, "data_format", None) == "channels_first"
        if first and bits_of_layer(layer) < FEW_BITS:
            raise ConversionError(
                f"Layer {label} has data_format='channels_first', but files know only "
                "'channels_last'. Build the model with that."
            )


def check_float(
    stages: Stages, runtime: str, allow_float: bool, examples: Callable[[], Any]
) -> list[FloatFallback]:
    """Returns the layers that become float; raises if that was not allowed.

    A file for LiteRT has no binary kernels, so for it, the layers that should be ±1 and
    are not are returned. `examples` is called only if examples are needed.
    """
    model, of = stages.traced.model, "a C file" if runtime == "c" else "LCE"
    in_float = _float_layers(stages, of, examples)
    if runtime == "litert":
        return [found for found, is_binary in in_float if is_binary]
    found = [found for found, _ in in_float]
    if found and not allow_float:
        many = "1 layer" if len(found) == 1 else f"{len(found)} layers"
        raise ConversionError(
            f"Model {model.name!r} has {many} of few bits without a binary kernel in "
            f"{of}. {' '.join(map(str, found))} Or pass allow_float=True "
            "(--allow-float), which converts what is named here in float."
        )
    if not stages.binary and not allow_float:
        raise ConversionError(
            f"Model {model.name!r} has no binary layer. A QuantConv2D is binary with "
            "an input_quantizer and a kernel_quantizer such as 'ste_sign'; "
            "allow_float=True (--allow-float) converts a model without any."
        )
    return found


def _float_layers(
    stages: Stages, of: str, examples: Callable[[], Any]
) -> list[tuple[FloatFallback, bool]]:
    """Lists layers of few bits without a binary kernel, which is one `of` this runtime.

    With each: whether its input and kernel both have two values, other than -1 and +1.
    """
    # Rebuilding in float32 may rename layers inside a user's layer.
    layers, trace = layers_by_name(stages.traced.model), stages.traced
    known = {*stages.binary}
    others = [use for use in trace.kernels if use.op.name not in known]
    few = [use for use in others if _kernel_bits(use, layers) < FEW_BITS]
    counts = _input_bits(few, layers, stages, examples)
    uses: dict[str, list[TracedKernel]] = defaultdict(list)
    for use in few:
        if counts[use.op.name] < FEW_BITS:
            uses[use.layer].append(use)
    # The kernels of these layers are hidden, perhaps in a loop.
    hidden = {layer_of(op) for op in trace.operations} & layers.keys()
    hidden -= {*(u.layer for u in trace.kernels), *map(layer_name, stages.binary)}
    hidden = {name for name in hidden if bits_of_layer(layers[name]) < FEW_BITS}
    found = []
    for name in [*uses, *sorted(hidden)]:
        layer, own = layers.get(name), uses.get(name, [])
        bits = _bits_of_input(layer), _bits_of_kernel(layer)
        if own:
            bits = counts[own[0].op.name], _kernel_bits(own[0], layers)
        binary = any(
            counts[x.op.name] == 1 and has_two_values(x) and not _is_plain(x)
            for x in own
        )
        found.append((_fallback(name, layer, own, bits, stages, of), binary))
    return found


def _fallback(
    name: str,
    layer: Any,
    uses: list[TracedKernel],
    bits: tuple[int, int],
    stages: Stages,
    of: str,
) -> FloatFallback:
    """Returns why a layer is float, and what its kernels cost."""
    weights = sum(math.prod(x.shape) for x in layer.weights) if layer else 0
    # A layer may have two kernels, and each of them several uses.
    sizes = {(use.op.type, use.kernel.shape): use.kernel.size for use in uses}
    macs = sum(map(_macs, uses)) // stages.io.batch_size or weights
    size = 4 * (sum(sizes.values()) or weights)
    kind = type(layer).__name__ if layer else uses[0].op.type
    between = _between(uses[0], stages.lowered.sums) if uses else None
    left = {node.name for node in stages.lowered.program.nodes}
    gone = bool(uses) and not any(use.op.name in left for use in uses)
    why = _why_float(name, kind, uses, bits, between, gone, of)
    return FloatFallback(name, kind, *why, macs=macs, bytes=size)


def bits_of_layer(layer: keras.layers.Layer) -> int:
    """Returns the bits of a layer's input or kernel, whichever are more."""
    return max(_bits_of_input(layer), _bits_of_kernel(layer))


def _bits_of_input(layer: Any) -> int:
    quantizer = getattr(layer, "input_quantizer", None)
    marker = isinstance(quantizer, lq.quantizers.NoOp)
    return 32 if marker else _signs.bits_of(quantizer)


def _bits_of_kernel(layer: Any) -> int:
    quantizers = (getattr(layer, name, None) for name in _operation.KERNELS.values())
    return min((_signs.bits_of(x) for x in quantizers if x is not None), default=32)


def _kernel_bits(use: TracedKernel, layers: Any) -> int:
    return 1 if has_two_values(use) else _bits_of_kernel(layers.get(use.layer))


def has_two_values(use: TracedKernel) -> bool:
    """Whether the kernel of an operation has two values per output channel."""
    kernel = use.kernel
    if use.op.type == "DepthwiseConv2dNative":
        return _signs.has_two_values(kernel.reshape(*kernel.shape[:2], -1))
    turned = (np.moveaxis(kernel, axis, -1) for axis in (-1, -2))
    return any(map(_signs.has_two_values, turned))


def _is_plain(use: TracedKernel) -> bool:
    """Whether input and kernel are both -1 and +1, as in LiteRT's binary layers."""
    ends = sign_taken_by(use.source)
    plain = ends is not None and use.signs and np.all(np.abs([ends.first, ends.second]))
    return bool(plain and np.all(np.abs(use.kernel) == 1))


def _input_bits(
    uses: Sequence[TracedKernel],
    layers: Any,
    stages: Stages,
    examples: Callable[[], Any],
) -> dict[str, int]:
    """Returns the bits of inputs, by operation name; 32 for real numbers."""
    bits = {u.op.name: _bits_of_input(layers.get(u.layer)) for u in uses}
    asked = [u for u in uses if bits[u.op.name] > 1 and _has_step(u.read.op)]
    if asked:
        form = stages.traced.form
        inputs = dict(zip(form.inputs, examples(), strict=True))
        made = form.run(inputs, [use.read for use in asked])
        for use, numbers in zip(asked, made, strict=True):
            bits[use.op.name] = min(bits[use.op.name], _bits_of_numbers(numbers))
    return bits


def _has_step(op: Any) -> bool:
    """Whether an operation before this one reduces many values to few."""
    waiting, seen = [op], set[str]()
    while waiting:
        op = waiting.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if _is_step(op):
            return True
        if op.type not in INPUTS:
            waiting += [tensor.op for tensor in op.inputs]
    return False


def _is_step(op: Any) -> bool:
    if op.type.startswith("FakeQuant"):
        return bool(op.get_attr("num_bits") < FEW_BITS)
    if op.type == "Cast":
        return op.inputs[0].dtype.is_floating and op.outputs[0].dtype.is_integer
    return _STEPS.match(op.type) is not None


def _bits_of_numbers(numbers: np.ndarray) -> int:
    """Returns the bits that distinguish numbers; 32 if most of them differ."""
    ordered = np.sort(numbers.astype(float), axis=None)
    near = _EQUAL * np.abs(ordered).max(initial=0)
    count = 1 + int(np.sum(np.diff(ordered) > near))
    return max(math.ceil(math.log2(count)), 1) if 4 * count <= ordered.size else 32


def _why_float(
    name: str,
    kind: str,
    uses: Sequence[TracedKernel],
    bits: tuple[int, int],
    between: str | None,
    gone: bool,
    of: str,
) -> Why:
    """Returns why a layer meant to be binary is float, and a remedy."""
    label, sign = repr(name), sign_taken_by(uses[0].source) if uses else None
    if sign is not None and sign.of and sign.compare is None:
        return (
            f"The sign before layer {label} gives 0 at 0, while {of}'s sign is -1 "
            "below 0 and +1 from 0 on",
            "Use a quantizer of Larq such as 'ste_sign', or a function that returns "
            "larq.math.sign(x) as it is, with a gradient by tf.custom_gradient.",
        )
    if between is not None and between != name and bits[1] == 1:
        return (
            f"Layer {between!r} stands between a sign and layer {label}, "
            "which makes that a float convolution",
            f"Give {label} an input_quantizer such as 'ste_sign'.",
        )
    if max(bits) > 1:
        return (
            f"Layer {label} has {bits[0]}-bit inputs and a {bits[1]}-bit kernel, for "
            f"which {of} has no kernel",
            "Use signs for both, such as 'ste_sign', or leave one of them unquantized.",
        )
    kernel = uses[0].kernel if uses else np.ones(1)
    if _signs.split_kernel(kernel) is None or not kernel.all():
        zeros = int(np.sum(kernel == 0))
        some = f" (zero weights: {zeros:,} of {kernel.size:,})" if zeros else ""
        return (
            f"The kernel of layer {label} is not ±c with one c per output channel"
            f"{some}, which is all that {of} can binarize",
            "Use a kernel_quantizer such as 'ste_sign', or set its input_quantizer to "
            "None to keep it float.",
        )
    if uses and uses[0].op.type in ("Conv2D", "MatMul") and not uses[0].signs:
        return (
            f"The input of layer {label} has at most two values, but nothing that {of} "
            "knows as a sign makes them",
            f"Give {label} an input_quantizer such as 'ste_sign', or compare with a "
            "constant as the last step before it.",
        )
    if gone and uses[0].op.type in ("Conv2D", "MatMul"):
        return (
            f"What follows layer {label} multiplies its output by 0, so nothing of the "
            "layer is left in the file",
            "Give that factor another value, such as the gain of a SkipInit or gamma "
            "of a batch norm: training does.",
        )
    return (
        f"Layer {label} is a binary {kind}, for which {of} has no binary kernel",
        "Use a QuantConv2D, or leave its input or its kernel unquantized.",
    )


def _between(use: TracedKernel, sums: Sequence[str]) -> str | None:
    """Returns the layer between a sign and a kernel, if it is no sign itself."""
    op, first = use.read.op, None
    while op.type in _HANDS_ON and op.inputs:
        if first is None and op.type not in (*NOTHING, *_PADS):
            first = layer_of(op)
        maps = (x.op for x in op.inputs if constant(x) is None)
        op = next(maps, op.inputs[0].op)
    return first if op.name in sums or sign_taken_by(op) is not None else None


def _macs(use: TracedKernel) -> int:
    """Returns the multiply-accumulates of a whole batch; 0 if the shape is unknown."""
    op, kernel = use.op, use.kernel
    shape = (op.inputs[2] if INPUTS[op.type] == 2 else op.outputs[0]).shape
    if not shape.is_fully_defined():
        return 0
    # If the kernel is the first matrix, columns instead of rows count.
    first = "MatMul" in op.type and constant(op.inputs[0]) is not None
    rest = [*shape[:-2], shape[-1]] if first else shape[:-1]
    return kernel.size * math.prod(rest)


# --- of files

_SCALES = ("MUL", "DIV", "PAD", "PADV2", "RESHAPE", "SPACE_TO_BATCH_ND")
_FILE_MOVES = ("MIRROR_PAD", "TRANSPOSE", "GATHER", "SLICE", "STRIDED_SLICE", "SPLIT")
_FILE_POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "REDUCE_MAX", "CONCATENATION")
_FILE_SIGNS = ("LceDequantize", "SIGN")


def float_in_file(graph: Subgraph) -> Iterator[FloatFallback]:
    """Yields binary layers that are float in a file, with the cost of one run."""
    for op in graph.operations:
        between = before_signs(graph, op, (*_SCALES, *_FILE_MOVES, *_FILE_POOLS))
        if between and filters_have_two_values(op):
            size, name = op.input(1).bytes, graph.layer(op)
            why = _why_float_in_file(op, between)
            yield FloatFallback(name, op.op, *why, op.macs, size)


def before_signs(
    graph: Subgraph, op: FileOperation, passes: Sequence[str] = _SCALES
) -> list[FileOperation]:
    """Returns the operations from a float kernel back to a sign; [] without one."""
    if op.op not in CHANNELS or len(op.inputs) < 2:
        return []
    filters, between = op.input(1), list[FileOperation]()
    source = graph.before(op, 2 if op.op == "TRANSPOSE_CONV" else 0)
    while source is not None and source.op in passes:
        between.append(source)
        source = graph.before(source, source.op == "SPLIT")
    plain = filters.dtype == "float32" and filters.constant
    signs = source is not None and _makes_two_values(graph, source)
    return [*between, source] if signs and source and plain else []


def _makes_two_values(graph: Subgraph, op: FileOperation) -> bool:
    """Whether an operation is a sign, a selection of constants or a comparison."""
    if op.op == "CAST":
        before = graph.before(op)
        return before is not None and before.outputs[0].dtype == "bool"
    selects = op.op in ("SELECT", "SELECT_V2")
    ends = [op.input(1), op.input(2)] if selects else []
    chosen = selects and all(t.constant and t.values.size == 1 for t in ends)
    return chosen or op.op in _FILE_SIGNS


def filters_have_two_values(op: FileOperation) -> bool:
    """Whether each output channel of an operation's filters has two values."""
    filters = np.moveaxis(op.input(1).values, CHANNELS[op.op], -1)
    return _signs.has_two_values(filters)


def _why_float_in_file(op: FileOperation, between: list[FileOperation]) -> Why:
    *others, sign = between
    if sign.op != "LceDequantize":
        return (
            "LCE does not know this sign",
            "Take the sign with larq.math.sign or a quantizer of Larq.",
        )
    if op.op != "CONV_2D":
        return (
            f"LCE has no kernel for a binary {op.op}",
            "Use a QuantConv2D, or leave its input or its kernel unquantized. "
            "larq_nobn.convert writes a QuantDense as a binary convolution of size 1.",
        )
    if others:
        return (
            f"{others[-1].op} stands between the convolution and its sign",
            "Let the sign go straight into the convolution, padded with 1 or not at "
            "all.",
        )
    return (
        "a binary convolution",
        "Convert the model with larq_nobn.convert, which names the cause.",
    )


def check_count(found: Sequence[str], expected: Sequence[str], in_float: Any) -> None:
    """Rejects a file for LCE that has other binary layers than the model.

    `in_float` has the results of `float_in_file`, as plain JSON types.
    """
    if len(found) == len(expected):
        return
    if len(found) > len(expected):
        why = (
            "it binarized what is not exactly a sign, or not exactly ±c, in "
            f"{', '.join(repr(x) for x in found if x not in expected)}. Use quantizers "
            "such as 'ste_sign', or real weights."
        )
    else:
        why = " ".join(
            "layer {layer!r} stayed float. {finding}. {remedy}".format(**row)
            for row in in_float
        )
    raise ConversionError(
        f"LCE found {len(found)} binary convolutions where the model has "
        f"{len(expected)}: {why}"
    )
