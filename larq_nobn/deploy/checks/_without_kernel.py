"""Layers of few bits for which LCE has no binary kernel, and their cost in float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import larq as lq
import numpy as np

from ..._keras import keras
from ...graph import (
    Call,
    bits_of,
    calls,
    has_binary_kernel,
    is_binary_convolution,
    is_channels_last,
    kernel_value,
)
from .._binary import (
    RESHAPED,
    binary_parts,
    is_plain,
    is_reshaped,
    is_zero_one,
    sign_for,
)
from .._errors import ConversionError
from .._normal import given_name
from ._near_misses import Reason, few_bits, kernel_quantizers, stands_between

KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
_TRANSPOSED = (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_LOCAL = (keras.layers.LocallyConnected1D, keras.layers.LocallyConnected2D)


@dataclass(frozen=True)
class NoKernel:
    """A layer that is binary, or of few bits, in the model, and float in a file.

    Attributes:
        layer: Its name.
        kind: Its class.
        finding: Why, as a sentence without its period.
        remedy: What to do.
        macs: Multiply-accumulates for one example, all in float.
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


def without_kernel(call: Call) -> NoKernel | None:
    """Says why a call that was meant to be binary has no binary kernel in LCE.

    None for a binary convolution that has one, and for whatever is float in the model.
    """
    if binary_parts(call):
        known = is_plain(call) or is_reshaped(call)  # which are rewritten
        reason = None if known and is_zero_one(sign_for(call)) else _sign(call)
        if not known:
            reason = reason or _padding(call)
    elif sign_for(call) is not None and 1 in map(bits_of, kernel_quantizers(call)):
        reason = _kernel(call)
    else:
        reason = few_bits(call) or stands_between(call)
    if reason is None:
        return None
    kind = type(call.layer).__name__
    return NoKernel(given_name(call.name), kind, *reason, *_cost(call))


def layers_without_kernel(model: keras.Model) -> list[NoKernel]:
    """Lists the layers of a functional model that have no binary kernel in LCE.

    Of a layer that is used more than once, the work is that of all its uses that lack
    a kernel.
    """
    found: dict[str, NoKernel] = {}
    for lack in filter(None, map(without_kernel, calls(model))):
        before = found.get(lack.layer)
        macs = lack.macs + (before.macs if before else 0)
        found[lack.layer] = replace(lack, macs=macs)
    return list(found.values())


def refuse(found: Sequence[NoKernel], name: str) -> None:
    """Raises a ConversionError that names each layer, its cost and its remedy."""
    many = "1 layer" if len(found) == 1 else f"{len(found)} layers"
    raise ConversionError(
        f"Model {name!r} has {many} of few bits without a binary kernel in LCE. "
        f"{' '.join(map(str, found))} Or pass allow_float=True (--allow-float), which "
        "converts what is named here in float."
    )


def _kernel(call: Call) -> Reason:
    """Why a kernel that is meant for signs has no counterpart in LCE."""
    layer, kind = call.layer, type(call.layer).__name__
    if isinstance(layer, RESHAPED) and not is_channels_last(layer):
        return Reason(
            f"Layer {call.label!r} has data_format={layer.data_format!r}, but LCE "
            "knows 'channels_last' only",
            "Build the model with that.",
        )
    known = isinstance(layer, (lq.layers.QuantConv2D, *RESHAPED))
    if not known or has_binary_kernel(layer):
        return Reason(
            f"Layer {call.label!r} is a binary {kind}, for which LCE has no binary "
            "kernel",
            _remedy(layer),
        )
    kernel = kernel_value(layer.kernel)
    zeros = int(np.sum(kernel == 0))
    some = f" (zero weights: {zeros:,} of {kernel.size:,})" if zeros else ""
    return Reason(
        f"The kernel of layer {call.label!r} is not ±c with one c per output "
        f"channel{some}, which is all that LCE can binarize",
        "Use a kernel_quantizer such as 'ste_sign', or set its input_quantizer to None "
        "to keep it float.",
    )


def _remedy(layer: keras.layers.Layer) -> str:
    if isinstance(layer, lq.layers.QuantDense):
        return (
            "Write it as Reshape((1, 1, -1)), a QuantConv2D with kernel size 1 and "
            "Flatten(), or leave its input or its kernel unquantized."
        )
    if isinstance(layer, (lq.layers.QuantConv1D, lq.layers.QuantLocallyConnected1D)):
        return (
            "Write it as Reshape((1, length, channels)) and a QuantConv2D with kernel "
            "size (1, size), or leave its input or its kernel unquantized."
        )
    return "Use a QuantConv2D, or leave its input or its kernel unquantized."


def _sign(call: Call) -> Reason | None:
    quantizer = getattr(call.layer, "input_quantizer", None)
    if quantizer is None or isinstance(quantizer, lq.quantizers.NoOp):
        return None
    channels = call.inputs.shape[-1]
    probe = np.repeat(np.linspace(-3, 3, 13, dtype=np.float32), channels)
    shape = (1,) * (call.inputs.shape.rank - 2) + (13, channels)
    values = np.unique(np.asarray(quantizer(probe.reshape(shape))))
    others = values[~np.isin(values, (-1, 1))]
    if not len(others):
        return None
    return Reason(
        f"The input quantizer of layer {call.label!r} gives {others[0]:g}, but LCE "
        "binarizes to -1 and +1 only",
        "Use a sign, such as 'approx_sign', or larq.math.sign, which is +1 at 0.",
    )


def _padding(call: Call) -> Reason | None:
    padding = pad_value(call.layer)
    if not _is_padded(call.layer) or padding in (0.0, 1.0):
        return None
    return Reason(
        f"Layer {call.label!r} pads with {padding:g}, but LCE knows binary "
        "convolutions padded with 1 or 0 only",
        "Use pad_values=1.0.",
    )


def computed_wrongly(call: Call) -> Reason | None:
    """Says why LCE would make a binary convolution of a call, but not a right one.

    Those that are rewritten are none of these.
    """
    if not is_binary_convolution(call) or is_plain(call):
        return None
    layer = call.layer
    if layer.groups != 1:
        return Reason(
            f"Layer {call.label!r} is a binary convolution in {layer.groups} groups, "
            "which LCE's kernels on phones refuse",
            "Use a plain QuantConv2D, which becomes one convolution for each group.",
        )
    if not _is_padded(layer) or pad_value(layer) != 0.0:
        return None
    size = call.inputs.shape[1:3]
    return small_map(call.label, size, layer.kernel_size, layer.dilation_rate)


def _is_padded(layer: Any) -> bool:
    return layer.padding == "same" and layer.kernel_size != (1, 1)


def small_map(
    label: str, size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> Reason | None:
    """Says that a map is smaller than the kernel that it is padded with zeros for."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if all(s >= r for s, r in zip(size, reach, strict=True)):
        return None
    return Reason(
        f"Layer {label!r} pads a {size[0]}x{size[1]} map with zeros for a "
        f"{reach[0]}x{reach[1]} kernel, which LCE computes wrongly",
        "Use pad_values=1.0, convert(one_padding=True), or larger images.",
    )


def pad_value(layer: Any) -> float:
    """Returns what a convolution pads with."""
    return float(keras.backend.get_value(getattr(layer, "pad_values", 0.0)))


def _cost(call: Call) -> tuple[int, int]:
    """Multiply-accumulates for one example, and bytes of the kernels as floats."""
    layer = call.layer
    kernels = [getattr(layer, name, None) for name in KERNELS]
    weights = sum(prod(kernel.shape) for kernel in kernels if kernel is not None)
    return weights * _positions(call), 4 * weights


def _positions(call: Call) -> int:
    """How often each weight is used; of what no shape tells, once."""
    layer = call.layer
    if isinstance(layer, _LOCAL):
        return 1
    # A transposed convolution spreads every input, the others gather every output.
    end = call.first_input if isinstance(layer, _TRANSPOSED) else call.first_output
    first = getattr(layer, "data_format", None) == "channels_first"
    sizes = end.shape[2:] if first else end.shape[1:-1]
    return prod(size or 1 for size in sizes)
