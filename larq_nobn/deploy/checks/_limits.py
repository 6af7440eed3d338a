"""What LCE cannot binarize, said before it is tried."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import (
    Call,
    ModelError,
    calls,
    check_inference,
    is_binary_convolution,
)
from .._binary import binary_parts
from .._errors import ConversionError
from .._normal import given_name
from ._near_misses import check_inside, why_none_is_binary
from ._without_kernel import NoKernel, computed_wrongly, layers_without_kernel, refuse


def check_limits(
    model: keras.Model, allow_float: bool = False
) -> tuple[list[str], list[NoKernel]]:
    """Returns what should be binary in a file of a model, and what is float on request.

    Arguments:
        model: A functional model.
        allow_float: Whether layers without a binary kernel, and models without a
            binary layer, may pass.

    Raises:
        ConversionError: If there is none, or one that LCE would compute wrongly or in
            float, or a layer is called with `training=True`; it names all such layers
            and the remedies.
        UnreadableError: If a layer holds a binary one.
    """
    try:
        check_inference(model)
    except ModelError as error:
        raise ConversionError(str(error)) from error
    found: list[str] = []
    for call in calls(model):
        check_weights(call.layer, call.label)
        check_state(call.layer)
        if is_binary_convolution(call):
            _check_format(call)
            wrong = computed_wrongly(call)
            if wrong is not None:
                raise ConversionError(str(wrong))
        parts = binary_parts(call)
        if not parts:
            check_inside(call)
        found += [call.name] * len(parts)
    lacking = layers_without_kernel(model)
    if lacking and not allow_float:
        refuse(lacking, model.name)
    # The layer is float in all its uses.
    names = {lack.layer for lack in lacking}
    binary = [name for name in found if given_name(name) not in names]
    if not binary and not allow_float:
        raise ConversionError(
            f"Model {model.name!r} has no binary layer: {why_none_is_binary(model)}. A "
            "QuantConv2D is binary with an input_quantizer and a kernel_quantizer such "
            "as 'ste_sign'; allow_float=True converts a model without any."
        )
    return binary, lacking


def check_weights(layer: keras.layers.Layer, label: str) -> None:
    """Refuses weights that are no numbers."""
    for weight in layer.weights:
        if weight.dtype.is_floating and np.isnan(tf.cast(weight, tf.float32)).any():
            raise ConversionError(
                f"Weight {weight.name!r} of layer {label!r} holds NaN: training "
                "diverged. Convert an earlier state of the model."
            )


def check_state(layer: keras.layers.Layer) -> None:
    """Refuses recurrent layers that go on where the call before has ended."""
    for inner in layer._flatten_layers():
        if getattr(inner, "stateful", False) and isinstance(inner, keras.layers.RNN):
            raise ConversionError(
                f"The recurrent layer {inner.name!r} ({type(inner).__name__}) has "
                "stateful=True: it goes on where the call before has ended, while a "
                "file starts over in every run. Build it with stateful=False, and show "
                "it whole sequences."
            )


def _check_format(call: Call) -> None:
    if call.layer.data_format != "channels_last":
        raise ConversionError(
            f"Layer {call.label!r} has data_format={call.layer.data_format!r}, but LCE "
            "knows 'channels_last' only. Build the model with that."
        )
