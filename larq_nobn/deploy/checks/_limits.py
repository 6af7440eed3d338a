"""What LCE cannot binarize, said before it is tried."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call, calls, is_binary_convolution
from .._binary import binary_parts
from .._errors import ConversionError
from ._near_misses import check_inside, why_none_is_binary
from ._without_kernel import refuse, without_kernel


def check_limits(model: keras.Model, allow_float: bool = False) -> int:
    """Returns how many binary convolutions LCE should find in a functional model.

    Arguments:
        model: A functional model.
        allow_float: Whether layers without a binary kernel, and models without a
            binary layer, may pass.

    Raises:
        ConversionError: If there is none, or one that LCE would compute wrongly or in
            float; it names all such layers and the remedies.
        UnreadableError: If a layer holds a binary one.
    """
    found: list[str] = []
    lacking = []
    for call in calls(model):
        _check_numbers(call)
        _check_state(call)
        if is_binary_convolution(call):
            _check_format(call)
        parts = binary_parts(call)
        if not parts:
            check_inside(call)
        lack = without_kernel(call)
        if lack is not None:
            lacking.append(lack)
        else:
            found += [call.name] * len(parts)
    if lacking and not allow_float:
        refuse(lacking, model.name)
    # The layer is float in all its uses.
    names = {lack.layer for lack in lacking}
    count = sum(name not in names for name in found)
    if not count and not allow_float:
        raise ConversionError(
            f"Model {model.name!r} has no binary layer: {why_none_is_binary(model)}. A "
            "QuantConv2D is binary with an input_quantizer and a kernel_quantizer such "
            "as 'ste_sign'; allow_float=True converts a model without any."
        )
    return count


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


def _check_format(call: Call) -> None:
    if call.layer.data_format != "channels_last":
        raise ConversionError(
            f"Layer {call.label!r} has data_format={call.layer.data_format!r}, but LCE "
            "knows 'channels_last' only. Build the model with that."
        )
