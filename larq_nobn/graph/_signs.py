"""Which tensors are signs, and which calls are binary convolutions of them."""

from __future__ import annotations

from typing import Any

import larq as lq

from .._keras import keras
from ..layers._grouped import GroupedConv2D
from ._calls import TRAINING_ONLY, Call, inputs_of
from ._kernels import has_binary_kernel, is_binary

_layers = keras.layers
_quant = lq.layers

# What layers compute whose activation comes last. A subclass that computes something
# else has a `call` of its own.
_ACTIVATED = {
    kind.call
    for kind in (
        *(_layers.Dense, _layers.EinsumDense, _layers.Conv2D),
        *(_layers.DepthwiseConv1D, _layers.DepthwiseConv2D),
        *(_layers.SeparableConv1D, _layers.SeparableConv2D),
        *(_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose),
        *(_layers.LocallyConnected1D, _layers.LocallyConnected2D),
        *(_quant.QuantConv2D, GroupedConv2D),
    )
}
_RESHAPES = (_layers.Flatten, _layers.Reshape)
_NOTHING = ("identity", "stop_gradient")


def sign_of(layer: keras.layers.Layer) -> Any:
    """Returns the quantizer if this layer is nothing but one, and binary."""
    if isinstance(layer, lq.quantizers.Quantizer) and is_binary(layer):
        return layer
    if isinstance(layer, _layers.Activation) and is_binary(layer.activation):
        return layer.activation
    return None


def sign_after(layer: keras.layers.Layer) -> Any:
    """Returns the sign that a layer takes of what it computes, given as `activation`.

    None for a layer that is nothing but a sign.
    """
    known = type(layer).call in _ACTIVATED
    return layer.activation if known and is_binary(layer.activation) else None


def sign_at(tensor: Any, reshaped: bool = False) -> Any:
    """Returns the quantizer that makes a tensor, if it is a sign; else None.

    This is the one place that knows which tensors are signs: the output of a layer that
    is a sign or ends in one, also after what hands its input on. Of truth values that
    are cast to 0 and 1, the quantizer is Larq's with these values.

    Arguments:
        tensor: A symbolic tensor of a model.
        reshaped: Whether a sign in another shape counts too.
    """
    while True:
        layer, index, _ = tensor._keras_history
        node = layer.inbound_nodes[index]
        if node.is_input:
            return None
        if is_mask(tensor):
            return lq.quantizers.SteHeaviside()
        if not is_identity(node) and not (reshaped and isinstance(layer, _RESHAPES)):
            return sign_of(layer) or sign_after(layer)
        tensor = node.keras_inputs[0]


def is_identity(node: Any) -> bool:
    """Whether a call returns its input at inference, as it is."""
    layer = node.layer
    if len(node.keras_inputs) != 1:
        return False
    if type(layer) is _layers.Activation:
        return layer.activation is keras.activations.linear
    given, made = node.keras_inputs[0], node.outputs
    if type(layer) is _layers.Rescaling:
        number = isinstance(layer.scale, (int, float)) and layer.scale == 1
        return number and layer.offset == 0 and given.dtype.is_floating
    symbol = getattr(layer, "symbol", "")
    if symbol == "cast":
        return given.dtype == made.dtype
    nothing = type(layer) in (_layers.Identity, _layers.Layer) or symbol in _NOTHING
    return nothing or isinstance(layer, TRAINING_ONLY)


def sign_before(call: Call, reshaped: bool = False) -> Any:
    """Returns the sign that makes what meets the kernel of a call; None for none.

    It is the layer's own, or that of the tensor before.

    Arguments:
        call: Any.
        reshaped: Whether a sign in another shape counts too.
    """
    own = getattr(call.layer, "input_quantizer", None)
    if is_binary(own):
        return own
    if own is not None and not isinstance(own, lq.quantizers.NoOp):
        return None
    inputs = inputs_of(call.node)  # not call.inputs: in 0.5 * x that is a number
    return sign_at(inputs[0], reshaped) if len(inputs) == 1 else None


def has_sign_input(call: Call) -> bool:
    """Tells whether what meets the kernel in this call is the output of a sign."""
    return sign_before(call) is not None


def is_mask(tensor: Any) -> bool:
    """Tells whether a tensor is truth values as 0 and 1: `tf.cast(x > 0, "float")`."""
    layer, index, _ = tensor._keras_history
    if getattr(layer, "symbol", "") != "cast" or not tensor.dtype.is_floating:
        return False
    return layer.inbound_nodes[index].keras_inputs[0].dtype.is_bool


def is_binary_convolution(call: Call) -> bool:
    """Tells whether LCE should find a binary convolution in this call."""
    layer = call.layer
    # A Conv2DTranspose is a Conv2D to Python; it is none to LCE.
    plain = isinstance(layer, _quant.QuantConv2D) or type(layer) is _layers.Conv2D
    return plain and has_sign_input(call) and has_binary_kernel(layer)
