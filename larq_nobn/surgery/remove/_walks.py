"""Looks along the graph: which kernel, norm, sign or sum lies after or before what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import larq as lq

from ..._keras import keras
from ...graph import (
    TRAINING_ONLY,
    Call,
    Graph,
    commutation,
    inputs_of,
    is_batch_norm,
    is_binary,
    is_channels_last,
    latent,
    sign_of,
)
from ._moments import activation_of, is_sum

_layers = keras.layers
_quant = lq.layers
# The layer of the same arguments whose kernel can have a quantizer.
QUANTIZED = {
    _layers.Dense: _quant.QuantDense,
    _layers.Conv1D: _quant.QuantConv1D,
    _layers.Conv2D: _quant.QuantConv2D,
    _layers.Conv3D: _quant.QuantConv3D,
    _layers.SeparableConv1D: _quant.QuantSeparableConv1D,
    _layers.SeparableConv2D: _quant.QuantSeparableConv2D,
}
KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
_SEPARABLE = (_quant.QuantSeparableConv1D, _quant.QuantSeparableConv2D)
_BOUNDED = frozenset({"sigmoid", "hard_sigmoid", "tanh", "softmax", "softsign"})


def has_kernel(layer: keras.layers.Layer) -> bool:
    """Whether a layer multiplies by a kernel of any kind."""
    return any(getattr(layer, name, None) is not None for name in KERNELS)


def kernel_name(layer: keras.layers.Layer) -> str | None:
    """Which kernel of a layer can be standardized: that which makes its output."""
    quantized = QUANTIZED.get(type(layer), type(layer))
    if not issubclass(quantized, tuple(QUANTIZED.values())):
        return None
    if not is_channels_last(layer):
        return None
    name = "pointwise_kernel" if issubclass(quantized, _SEPARABLE) else "kernel"
    shape = latent(getattr(layer, name)).shape
    return name if shape[:-1].num_elements() > 1 else None


def argument_of(kernel: str, what: str) -> str:
    """The argument of a layer that is the quantizer, or so, of one of its kernels."""
    return f"{kernel.removesuffix('_kernel')}_{what}"


def to_standardize(graph: Graph, call: Call) -> str | None:
    """The kernel of a call that the BN-free form standardizes, if it has one."""
    layer = call.layer
    name = kernel_name(layer)
    if name is None:
        return None
    quantizer = getattr(layer, argument_of(name, "quantizer"), None)
    if is_binary(quantizer):
        return name
    if quantizer is not None:
        return None
    found = {what for use in graph.uses(call.name) for what in _ahead(graph, use)}
    wanted = {"norm"} if isinstance(layer, _layers.Dense) else {"norm", "sign", "merge"}
    return name if found & wanted else None


def _ahead(graph: Graph, call: Call) -> Iterator[str]:
    """What reads the output of a call first, through pools and activations."""
    if is_bounded(call.layer):
        return
    for reader in graph.consumers(call.first_output):
        layer = reader.layer
        if is_batch_norm(layer):
            yield "norm"
        elif sign_of(layer) or is_binary(getattr(layer, "input_quantizer", None)):
            yield "sign"
        elif is_sum(reader) or isinstance(layer, _layers.Concatenate):
            yield "merge"
        elif not has_kernel(layer) and len(inputs_of(reader.node)) == 1:
            yield from _ahead(graph, reader)


def is_bounded(layer: keras.layers.Layer) -> bool:
    """Whether a layer ends in a gate or a probability, which has no scale."""
    if isinstance(layer, _layers.Softmax):
        return True
    return activation_of(layer) in _BOUNDED


def lets_through(call: Call, positive: bool) -> bool:
    """Whether a gain and a bias per channel may stand before a layer as well as after.

    Arguments:
        call: Of the layer.
        positive: Whether all gains are.
    """
    if isinstance(call.layer, TRAINING_ONLY):
        return True
    known = commutation(call)
    gain = known.gain and (positive or known.negative)
    return gain and known.shift and not known.tiles


def kernel_before(graph: Graph, norm: Call, positive: bool) -> Call | None:
    """The kernel whose gain and bias can do what all uses of a batch norm do.

    Arguments:
        graph: Of the model.
        norm: Some use of the batch norm.
        positive: Whether its factors are; only then may a maximum lie between.
    """
    uses = graph.uses(norm.name)
    found = [_kernel_before(graph, use, positive) for use in uses]
    first = found[0]
    if first is None or any(call is None or call.name != first.name for call in found):
        return None
    different = len({id(call.first_output) for call in found if call}) == len(uses)
    return first if different and len(graph.uses(first.name)) == len(uses) else None


def _kernel_before(graph: Graph, norm: Call, positive: bool) -> Call | None:
    tensor = norm.first_input
    while graph.sole_consumer(tensor) is not None:
        call = graph.producer(tensor)
        if call is None:
            return None
        if has_kernel(call.layer):
            return None if activation_of(call.layer) else call
        if not lets_through(call, positive):
            return None
        tensor = call.first_input
    return None


def main_input(call: Call) -> Any:
    """The tensor whose scale the output of a call has; None where that is unclear."""
    inputs = inputs_of(call.node)
    if len(inputs) == 1:
        return inputs[0]
    if not isinstance(call.layer, _layers.Multiply):
        return None
    # A gate has one factor for many positions.
    full = [x for x in inputs if tuple(x.shape) == tuple(call.outputs.shape)]
    return full[0] if len(full) == 1 else None


def quantizer_of(layer: keras.layers.Layer) -> Any:
    """The sign that a layer starts with or is; None where there is none."""
    inner = getattr(layer, "input_quantizer", None)
    return inner if is_binary(inner) else sign_of(layer)


def flippable(graph: Graph, sign: Call) -> list[str] | None:
    """The layers whose kernels can turn the signs of a call around, channel by channel.

    None if something else reads them too, or a kernel does that has other inputs.
    """
    readers = [sign]
    if not has_kernel(sign.layer):
        if graph.is_output(sign.first_output):
            return None
        readers = graph.consumers(sign.first_output)
    found: list[str] = []
    for reader in readers:
        layer = reader.layer
        if isinstance(layer, TRAINING_ONLY):
            further = flippable(graph, reader)
            if further is None:
                return None
            found += further
        elif (
            type(layer) in (*QUANTIZED, *QUANTIZED.values())
            and kernel_name(layer) == "kernel"
            and getattr(layer, "groups", 1) == 1
            and len(graph.uses(reader.name)) == 1
        ):
            found.append(reader.name)
        else:
            return None
    return found
