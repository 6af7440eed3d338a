"""Pads binary convolutions with ones, which their kernels know, instead of zeros."""

from __future__ import annotations

import larq as lq

from ..._keras import keras
from ...graph import (
    Call,
    ModelError,
    calls,
    is_binary_convolution,
    rebuild,
    replace_layers,
)
from ...graph._replace import model_like
from .._errors import ConversionError
from .._normal import given_name
from .._opening import as_functional


def pad_with_ones(model: keras.Model) -> tuple[keras.Model, list[str]]:
    """Copies a model with its zero-padded binary convolutions padded with ones.

    At the border of a map a kernel then meets +1 where it met 0, which is neither of
    the values that it meets inside: the copy computes something else there. Its files
    are right on maps smaller than a kernel, and bits can pass from one binary
    convolution to the next.

    Arguments:
        model: A built functional or Sequential model; it is not changed.

    Returns:
        The copy, and the names of the layers that are padded with ones.

    Raises:
        ConversionError: If the model cannot be taken apart.
    """
    given = as_functional(model)
    names = list(dict.fromkeys(call.name for call in calls(given) if _pads(call)))
    if not names:
        return model, []
    copies: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []

    def copy(call: Call) -> keras.layers.Layer:
        new = _with_ones(call) if call.name in names else _again(call)
        copies.append((call.layer, new))
        return new

    # Larq leaves its scope open when a layer fails, and latent weights then read as ±1.
    with lq.context.quantized_scope(False):
        try:
            padded = replace_layers(given, copy)
        except ModelError as error:
            raise ConversionError(str(error)) from error
        for old, new in copies:
            new.set_weights(old.get_weights())
    named = list(dict.fromkeys(map(given_name, names)))
    return model_like(model, padded.inputs, padded.outputs), named


def _pads(call: Call) -> bool:
    layer = call.layer
    if not is_binary_convolution(call) or layer.padding != "same":
        return False
    values = keras.backend.get_value(getattr(layer, "pad_values", 0.0))
    return layer.kernel_size != (1, 1) and not values


def _again(call: Call) -> keras.layers.Layer:
    return rebuild(call.layer, name=call.name)


def _with_ones(call: Call) -> keras.layers.Layer:
    if type(call.layer) is not keras.layers.Conv2D:
        return rebuild(call.layer, name=call.name, pad_values=1.0)
    config = {**call.layer.get_config(), "name": call.name}
    return lq.layers.QuantConv2D.from_config({**config, "pad_values": 1.0})
