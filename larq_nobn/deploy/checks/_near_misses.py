"""Layers that are nearly binary, and that LCE would silently compute in float."""

from __future__ import annotations

from typing import Any, NamedTuple

import larq as lq
import tensorflow as tf

from ..._keras import keras
from ...graph import (
    TRAINING_ONLY,
    Call,
    bits_of,
    calls,
    has_sign_input,
    is_binary,
    sign_at,
    sign_of,
)
from .._errors import UnreadableError

_layers = keras.layers
_QUANTIZERS = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer")
# Networks of few bits; more are the business of 8-bit kernels.
FEW_BITS = 8
# Behind a sign, what they give is meant to be binary still.
_WEIGHTLESS = (
    _layers.AveragePooling2D,
    _layers.MaxPooling2D,
    _layers.ZeroPadding2D,
    _layers.Cropping2D,
    _layers.UpSampling2D,
    _layers.Reshape,
    _layers.Permute,
    _layers.Rescaling,
    _layers.Concatenate,
)


class Reason(NamedTuple):
    """Why a layer is float in a file, without its period, and what to do about it."""

    finding: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.finding}. {self.remedy}"


def kernel_quantizers(call: Call) -> list[Any]:
    """The quantizers of the kernels that meet the input of a call."""
    pointwise = getattr(call.layer, "pointwise_quantizer", None)
    return [q for q in all_quantizers(call.layer) if q is not pointwise]


def few_bits(call: Call) -> Reason | None:
    """Says that a call multiplies few bits, for which there is no kernel but 1 by 1."""
    kernels = kernel_quantizers(call)
    if not kernels:
        return None
    quantizer = getattr(call.layer, "input_quantizer", None)
    bits = 1 if has_sign_input(call) else input_bits(quantizer)
    kernel_bits = min(map(bits_of, kernels))
    if max(bits, kernel_bits) >= FEW_BITS:
        return None
    return Reason(
        f"Layer {call.label!r} has inputs of {bits} bit and a kernel of "
        f"{kernel_bits} bit, for which LCE has no kernel",
        "Use signs for both, such as 'ste_sign', or leave one of them unquantized.",
    )


def stands_between(call: Call) -> Reason | None:
    """Says what stands between a sign and the binary kernel that it is for."""
    kernels = kernel_quantizers(call)
    quantizer = getattr(call.layer, "input_quantizer", None)
    own = quantizer is not None and not isinstance(quantizer, lq.quantizers.NoOp)
    if not kernels or min(map(bits_of, kernels)) != 1 or own:
        return None
    remedy = f"Give {call.label!r} an input_quantizer such as 'ste_sign'"
    # Each tensor once: through residual sums, the number of paths grows exponentially.
    left, seen = tf.nest.flatten(call.inputs), set()
    while left:
        tensor = left.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        node = _node(tensor)
        if _is_plain_sign(node.layer):
            return Reason(
                f"Layer {node.layer.name!r} takes the sign for layer {call.label!r}, "
                "but TensorFlow's is 0 at 0, and LCE does not know it",
                f"{remedy} instead.",
            )
        if not _is_weightless(node):
            continue
        if any(sign_at(x) is not None for x in node.keras_inputs):
            name, kind = node.layer.name, type(node.layer).__name__
            return Reason(
                f"Layer {name!r} ({kind}) stands between a sign and layer "
                f"{call.label!r}, which makes that a float convolution",
                f"{remedy}.",
            )
        left += node.keras_inputs
    return None


def why_none_is_binary(model: keras.Model) -> str:
    """Says what the Larq convolutions of a model lack, by name."""
    found = [
        (call, layer)
        for call in calls(model)
        for layer in call.layer._flatten_layers()
        if isinstance(layer, lq.layers.QuantConv2D)
    ]
    no_input, no_kernel = [], []
    for call, layer in found:
        name = call.label if layer is call.layer else f"{call.label}/{layer.name}"
        if not (has_sign_input(call) or is_binary(layer.input_quantizer)):
            no_input.append(repr(name))
        if bits_of(layer.kernel_quantizer) != 1:
            no_kernel.append(repr(name))
    said = []
    if no_input:
        said.append(f"no sign in front of {', '.join(no_input)}")
    if no_kernel:
        said.append(f"no binary kernel in {', '.join(no_kernel)}")
    return " and ".join(said) or "it holds no QuantConv2D"


def input_bits(quantizer: Any) -> int:
    """Of what a quantizer makes of any input: of a marker, 32."""
    return 32 if isinstance(quantizer, lq.quantizers.NoOp) else bits_of(quantizer)


def check_inside(call: Call) -> None:
    """Refuses layers of few bits inside another, whose call says nothing of them.

    Raises:
        UnreadableError: It names both layers and the remedy.
    """
    inside = list(call.layer._flatten_layers(include_self=False))
    kernels = [q for layer in inside for q in all_quantizers(layer)]
    signs = [x for x in map(sign_of, inside) if x is not None]
    signed = has_sign_input(call) or not all(
        any(sign is kernel for kernel in kernels) for sign in signs
    )
    for layer in inside:
        of_layer = all_quantizers(layer)
        if not of_layer:
            continue
        quantizer = getattr(layer, "input_quantizer", None)
        bits = 1 if signed else input_bits(quantizer)
        bits = max(bits, min(map(bits_of, of_layer)))
        if bits < FEW_BITS:
            raise UnreadableError(
                f"Layer {call.label!r} ({type(call.layer).__name__}) holds the "
                f"{'binary' if bits == 1 else 'quantized'} layer {layer.name!r}, which "
                f"cannot be seen from outside. {_outside(call, layer)}"
            )


def _outside(call: Call, inner: keras.layers.Layer) -> str:
    """What to write in place of a layer that holds another."""
    if isinstance(call.layer, _layers.TimeDistributed):
        return (
            f"Call {inner.name!r} in the model itself, once for each time step "
            "x[:, t], and put its outputs together with tf.stack(..., axis=1)."
        )
    if isinstance(call.layer, (_layers.RNN, _layers.Bidirectional)):
        return (
            "LCE has no binary kernel for the steps of a recurrent layer. Leave the "
            "inputs or the kernels of its cell unquantized, and put binary "
            "convolutions before or behind it."
        )
    return (
        "Call that layer in the model itself; layers that belong together may be a "
        "functional model, which is opened."
    )


def all_quantizers(layer: keras.layers.Layer) -> list[Any]:
    found = [getattr(layer, name, None) for name in _QUANTIZERS]
    return [quantizer for quantizer in found if quantizer is not None]


def _is_plain_sign(layer: keras.layers.Layer) -> bool:
    # An operator such as * stands for a layer, whose symbol it is.
    operator = getattr(layer, "symbol", "").split(".")[-1]
    activation = getattr(layer, "activation", None)
    module = getattr(activation, "__module__", "").split(".")[0]
    called = (module, getattr(activation, "__name__", ""))
    return operator == "sign" or called == ("tensorflow", "sign")


def _node(tensor: Any) -> Any:
    layer, index, _ = tensor._keras_history
    return layer.inbound_nodes[index]


def _is_weightless(node: Any) -> bool:
    operator = hasattr(node.layer, "symbol") and len(node.keras_inputs) == 1
    return operator or isinstance(node.layer, (*_WEIGHTLESS, *TRAINING_ONLY))
