"""What of a model is binary, what stays float and why, and what cannot be converted.

LCE has binary kernels for plain 2D convolutions of signs with ±c, and computes whatever
comes close in float, without a word. What is binary is read from the operations of a
model's trace, and what was meant to be from the quantizers of its layers.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ..graph import _models, _operation, _signs
from ._errors import ConversionError
from ._opening import in_float32, opened, with_known_sizes
from .lite._converter import io_spec
from .operations import Stages, stages_of
from .trace._constants import constant
from .trace._names import layer_name, layer_of
from .trace._signs import is_zero_at_zero
from .trace._trace import Trace, TracedKernel

# A finding, as a sentence without its period, and what to do.
Why = tuple[str, str]
# Networks of few bits; more are the business of 8-bit kernels.
FEW_BITS = 8
# The number of a group in the name of its kernel.
_GROUP = re.compile(r"/\d+/([^/]*)$")
# They make no signs.
_REAL = ("AvgPool", "Conv2D", "MatMul", "Placeholder")
_BACKWARD = ("Conv2DBackpropInput", "Conv3DBackpropInputV2")


@dataclass(frozen=True)
class FloatFallback:
    """A layer that is binary, or of few bits, in the model, and float in a file.

    `kind` is its class, or the operation that it is in a file; `finding` a sentence
    without its period; `macs` are those of one example (of a file: one run), and
    `bytes` those of its kernels as floats.
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


def binary_layers(model: keras.Model) -> list[str]:
    """Lists the binary convolutions that a converted model should contain.

    Arguments:
        model: A built Larq model.

    Returns:
        The names of convolutions and dense layers whose input and kernel both have two
        values (up to a scale per output channel), in the order of the network, once for
        every use, and of one in groups for every group.

    Raises:
        ConversionError: If `model` is no such model, or cannot be traced.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        len(nobn.deploy.binary_layers(model))  # 16
        ```
    """
    given, _ = opened(with_known_sizes(model, None, None))
    io = io_spec(given)
    stages = stages_of(Trace(in_float32(given), io), "lce")
    return layers_of(stages.binary, layers_by_name(stages.traced.model))


def layers_by_name(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns the layers of a model; those inside before those around them."""
    return {layer.name: layer for layer in model._flatten_layers(include_self=False)}


def layers_of(kernels: Sequence[str], layers: Container[str]) -> list[str]:
    """Returns the layers of which kernels are, or of which they are a group."""
    names = map(layer_name, kernels)
    return [name if name in layers else name.rpartition("/")[0] for name in names]


def float_layers(stages: Stages) -> list[FloatFallback]:
    """Lists the layers of few bits, of uses that have no binary kernel in LCE."""
    # In float32, layers inside one of the user's may have got other names.
    layers, trace = layers_by_name(stages.traced.model), stages.traced
    known = {*stages.binary, *(_GROUP.sub(r"/\1", name) for name in stages.binary)}
    used = {use.layer for use in trace.kernels} & layers.keys()
    few = {name for name in used if _bits_of_kernel(layers[name]) < FEW_BITS}
    of_few = [u for u in trace.kernels if u.layer in few and u.op.name not in known]
    # Where the kernel alone is of few bits, its input decides.
    large = {name for name in few if _bits_of_input(layers[name]) >= FEW_BITS}
    unknown = [use for use in of_few if use.layer in large and not use.signs]
    real = {use.op.name for use in unknown if use.source.type in _REAL}
    asked = [use for use in unknown if use.op.name not in real]
    values = trace.values([use.read for use in asked]) if asked else []
    real |= {u.op.name for u, x in zip(asked, values, strict=True) if not _are_signs(x)}
    uses: dict[str, list[TracedKernel]] = defaultdict(list)
    for use in of_few:
        if use.op.name not in real:
            uses[use.layer].append(use)
    # No operation shows the kernel of these, which may be in a loop.
    hidden = {layer_of(op) for op in trace.operations} & layers.keys()
    hidden -= {*used, *layers_of(stages.binary, layers)}
    hidden = {name for name in hidden if bits_of_layer(layers[name]) < FEW_BITS}
    in_float = []
    for name in [*uses, *sorted(hidden)]:
        layer, own = layers[name], uses.get(name, [])
        weights = sum(math.prod(weight.shape) for weight in layer.weights)
        # A layer may have two kernels, and each of them several uses.
        sizes = {(use.op.type, use.kernel.shape): use.kernel.size for use in own}
        macs = sum(map(_macs, own)) // trace.io.batch_size or weights
        size, kind = 4 * (sum(sizes.values()) or weights), type(layer).__name__
        why = _why_float(layer, own)
        in_float.append(FloatFallback(name, kind, *why, macs=macs, bytes=size))
    return in_float


def bits_of_layer(layer: keras.layers.Layer) -> int:
    """Returns the larger precision of input and kernel that a layer itself shows."""
    return max(_bits_of_input(layer), _bits_of_kernel(layer))


def _bits_of_input(layer: keras.layers.Layer) -> int:
    quantizer = getattr(layer, "input_quantizer", None)
    marker = isinstance(quantizer, lq.quantizers.NoOp)
    return 32 if marker else _signs.bits_of(quantizer)


def _bits_of_kernel(layer: keras.layers.Layer) -> int:
    quantizers = (getattr(layer, name, None) for name in _operation.KERNELS.values())
    return min((_signs.bits_of(x) for x in quantizers if x is not None), default=32)


def _are_signs(values: np.ndarray) -> bool:
    """Whether numbers are of both signs and one size, but for those that are 0."""
    sizes = np.unique(np.abs(values[values != 0]))
    return len(sizes) == 1 and values.min() < 0 < values.max()


def _why_float(layer: keras.layers.Layer, uses: Sequence[TracedKernel]) -> Why:
    """Says what a layer that was meant to be binary lacks, and what to do."""
    label, kind = repr(layer.name), type(layer).__name__
    source = uses[0].source if uses else None
    if source is not None and is_zero_at_zero(source):
        return (
            f"The sign before layer {label} gives 0 at 0, while LCE's sign is -1 below "
            "0 and +1 from 0 on",
            "Use a quantizer of Larq such as 'ste_sign', or a function that returns "
            "larq.math.sign(x) as it is, with a gradient by tf.custom_gradient.",
        )
    # A user's quantizer of kernels may do more than it shows on single numbers.
    split = bool(uses) and _signs.split_kernel(uses[0].kernel) is not None
    bits = _bits_of_input(layer), 1 if split else _bits_of_kernel(layer)
    if bits[0] >= FEW_BITS:  # signs that another layer takes
        bits = 1, bits[1]
    if max(bits) > 1:
        return (
            f"Layer {label} has {bits[0]}-bit inputs and a {bits[1]}-bit kernel, for "
            "which LCE has no kernel",
            "Use signs for both, such as 'ste_sign', or leave one of them unquantized.",
        )
    if uses and not (split and uses[0].kernel.all()):
        kernel = uses[0].kernel
        zeros = int(np.sum(kernel == 0))
        some = f" (zero weights: {zeros:,} of {kernel.size:,})" if zeros else ""
        return (
            f"The kernel of layer {label} is not ±c with one c per output channel"
            f"{some}, which is all that LCE can binarize",
            "Use a kernel_quantizer such as 'ste_sign', or set its input_quantizer to "
            "None to keep it float.",
        )
    between = None if source is None else layer_of(source)
    if between not in (None, layer.name) and not uses[0].signs:
        return (
            f"Layer {between!r} stands between a sign and layer {label}, "
            "which makes that a float convolution",
            f"Give {label} an input_quantizer such as 'ste_sign'.",
        )
    return (
        f"Layer {label} is a binary {kind}, for which LCE has no binary kernel",
        "Use a QuantConv2D, or leave its input or its kernel unquantized.",
    )


def _macs(use: TracedKernel) -> int:
    """Multiply-accumulates for a whole batch; 0 where no shape says how many."""
    op, kernel = use.op, use.kernel
    shape = (op.inputs[2] if op.type in _BACKWARD else op.outputs[0]).shape
    if not shape.is_fully_defined():
        return 0
    # Of a matrix product, the axis of the other matrix.
    first = "MatMul" in op.type and constant(op.inputs[0]) is not None
    rest = [*shape[:-2], shape[-1]] if first else shape[:-1]
    return kernel.size * math.prod(rest)


def check_model(model: keras.Model) -> None:
    """Rejects layers that would be converted wrongly, or not at all, by name."""
    if getattr(model, "_is_graph_network", False):
        _models.check_inference(model)
    for layer in layers_by_name(model).values():
        label, kind = repr(layer.name), type(layer).__name__
        if isinstance(layer, keras.Model):
            continue
        for weight in layer.weights:
            floats = weight.dtype.is_floating
            if floats and np.isnan(tf.cast(weight, tf.float32)).any():
                raise ConversionError(
                    f"Weight {weight.name!r} of layer {label} contains NaN: training "
                    "diverged. Convert an earlier state of the model."
                )
        if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
            raise ConversionError(
                f"The recurrent layer {label} ({kind}) has stateful=True: it resumes "
                "where the previous call ended, while a file starts over in every run. "
                "Build it with stateful=False, and show it whole sequences."
            )
        first = getattr(layer, "data_format", None) == "channels_first"
        if first and bits_of_layer(layer) < FEW_BITS:
            raise ConversionError(
                f"Layer {label} has data_format='channels_first', but LCE knows "
                "'channels_last' only. Build the model with that."
            )


def check_float(stages: Stages, allow_float: bool) -> list[FloatFallback]:
    """Returns what is float in a file on request, or rejects it with all remedies."""
    model, in_float = stages.traced.model, float_layers(stages)
    if in_float and not allow_float:
        many = "1 layer" if len(in_float) == 1 else f"{len(in_float)} layers"
        raise ConversionError(
            f"Model {model.name!r} has {many} of few bits without a binary kernel in "
            f"LCE. {' '.join(map(str, in_float))} Or pass allow_float=True "
            "(--allow-float), which converts what is named here in float."
        )
    if not stages.binary and not allow_float:
        raise ConversionError(
            f"Model {model.name!r} has no binary layer. A QuantConv2D is binary with "
            "an input_quantizer and a kernel_quantizer such as 'ste_sign'; "
            "allow_float=True (--allow-float) converts a model without any."
        )
    return in_float
