"""What LCE cannot binarize, said before it is tried."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call, calls, has_sign_input, is_binary
from .._binary import binary_parts, is_plain, is_reshaped, is_zero_one, sign_before
from .._errors import ConversionError
from ._near_misses import check_near_miss, kernel_quantizers, why_none_is_binary


def check_limits(model: keras.Model) -> int:
    """Returns how many binary convolutions LCE should find in a functional model.

    Raises:
        ConversionError: If there is none, or one that LCE would leave in float or
            compute wrongly; it names the layer and the remedy.
    """
    found = 0
    for call in calls(model):
        _check_numbers(call)
        _check_state(call)
        parts = binary_parts(call)
        if parts:
            known = is_plain(call) or is_reshaped(call)
            if not (known and is_zero_one(sign_before(call))):
                _check_signs(call)
            if not known:
                _check_convolution(call)
            found += len(parts)
        elif has_sign_input(call) and any(map(is_binary, kernel_quantizers(call))):
            raise ConversionError(
                f"Layer {call.label!r} is a binary {type(call.layer).__name__}, for "
                f"which LCE has no binary kernel. {_remedy(call.layer)}"
            )
        else:
            check_near_miss(call)
    if not found:
        raise ConversionError(
            f"Model {model.name!r} has no binary layer: {why_none_is_binary(model)}. A "
            "QuantConv2D is binary with an input_quantizer and a kernel_quantizer such "
            "as 'ste_sign'."
        )
    return found


def _check_numbers(call: Call) -> None:
    for weight in call.layer.weights:
        if weight.dtype.is_floating and np.isnan(tf.cast(weight, tf.float32)).any():
            raise ConversionError(
                f"Weight {weight.name!r} of layer {call.label!r} holds NaN: training "
                "diverged. Convert an earlier state of the model."
            )


def _check_state(call: Call) -> None:
    for layer in call.layer._flatten_layers():
        if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
            raise ConversionError(
                f"The recurrent layer {layer.name!r} ({type(layer).__name__}) has "
                "stateful=True: it goes on where the call before has ended, while a "
                "file starts anew in every run. Build it with stateful=False, and show "
                "it whole sequences."
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


def _check_signs(call: Call) -> None:
    quantizer = getattr(call.layer, "input_quantizer", None)
    if quantizer is None or isinstance(quantizer, lq.quantizers.NoOp):
        return
    channels = call.inputs.shape[-1]
    probe = np.repeat(np.linspace(-3, 3, 13, dtype=np.float32), channels)
    shape = (1,) * (call.inputs.shape.rank - 2) + (13, channels)
    values = np.unique(np.asarray(quantizer(probe.reshape(shape))))
    others = values[~np.isin(values, (-1, 1))]
    if len(others):
        raise ConversionError(
            f"The input quantizer of layer {call.label!r} gives {others[0]:g}, but LCE "
            "binarizes to -1 and +1 only. Use a sign, such as 'approx_sign', or "
            "larq.math.sign, which is +1 at 0."
        )


def _check_convolution(call: Call) -> None:
    layer, size = call.layer, call.inputs.shape[1:3]
    if layer.groups != 1:
        raise ConversionError(
            f"Layer {call.label!r} is a binary convolution in {layer.groups} groups, "
            "which LCE's kernels on phones refuse. Use groups=1."
        )
    if layer.data_format != "channels_last":
        raise ConversionError(
            f"Layer {call.label!r} has data_format={layer.data_format!r}, but LCE "
            "knows 'channels_last' only. Build the model with that."
        )
    if layer.padding != "same" or layer.kernel_size == (1, 1):
        return
    padding = _pad_value(layer)
    if padding not in (0.0, 1.0):
        raise ConversionError(
            f"Layer {call.label!r} pads with {padding:g}, but LCE knows binary "
            "convolutions padded with 1 or 0 only. Use pad_values=1.0."
        )
    reach = [
        (k - 1) * d + 1
        for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)
    ]
    if padding == 0.0 and any(s < r for s, r in zip(size, reach, strict=True)):
        raise ConversionError(
            f"Layer {call.label!r} pads a {size[0]}x{size[1]} map with zeros for a "
            f"{reach[0]}x{reach[1]} kernel, which LCE computes wrongly. Use "
            "pad_values=1.0, convert(one_padding=True), or larger images."
        )


def _pad_value(layer: Any) -> float:
    return float(keras.backend.get_value(getattr(layer, "pad_values", 0.0)))
