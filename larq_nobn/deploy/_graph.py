"""The models that can be converted, and their signs and binary layers."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._keras import keras, why_no_model
from ..graph import (
    Call,
    ModelError,
    calls,
    flat_copy,
    is_binary,
    sign_behind,
    sign_of,
)
from ._binary import binary_parts
from ._errors import ConversionError, UnreadableError
from ._normal import given_name, normal_form


class Sign(NamedTuple):
    """One place where a feature map, or some of its channels, become ±1."""

    label: str
    tensor: Any
    quantizer: Any
    channels: slice = slice(None)


def output_layers(model: keras.Model) -> list[str]:
    """The names of the layers that give a model's outputs."""
    return [tensor._keras_history.layer.name for tensor in model.outputs]


def as_functional(model: Any) -> keras.Model:
    """Returns a plain functional model, with lists of inputs and outputs or one each.

    Its layers are the given model's own, or copies where it does not have the form that
    is converted: with models inside, with signs given as the activation of a layer, or
    with what `normal_form` changes.

    Raises:
        ConversionError, UnreadableError: As `normalized`.
    """
    return normalized(model)[0]


def normalized(model: Any) -> tuple[keras.Model, list[str]]:
    """Returns what `as_functional` does, and the binary layers that were merged.

    Raises:
        ConversionError: If `model` is no Keras model with inputs of known size.
        UnreadableError: If it is, or holds, a model that cannot be opened.
    """
    if not isinstance(model, keras.Model):
        raise ConversionError(why_no_model(model))
    if not getattr(model, "_is_graph_network", False):
        raise UnreadableError(
            f"Model {model.name!r} has no layer graph: it is subclassed, or a "
            "Sequential model without a known input shape. Write it with keras.Input "
            "and keras.Model, or call build(input_shape) first."
        )
    for given, name in zip(model.inputs, model.input_names, strict=True):
        if None in given.shape[1:]:
            raise ConversionError(
                f"Input {name!r} of model {model.name!r} has the shape "
                f"{tuple(given.shape)}, which leaves more open than the batch size. "
                "Build the model with a fixed image size, or pass that to convert as "
                "input_shape."
            )
    try:
        if any(isinstance(x, keras.Model) or sign_behind(x) for x in model.layers):
            model = flat_copy(model)
        model, merged = normal_form(model)
    except ModelError as error:
        raise UnreadableError(str(error)) from error
    return keras.Model(model.inputs, model.outputs, name=model.name), merged


def signs(model: keras.Model) -> list[Sign]:
    """Lists every sign of the model, each behind the signs that it depends on."""
    found = []
    for call in calls(model):
        inner = getattr(call.layer, "input_quantizer", None)
        quantizer = inner if is_binary(inner) else sign_of(call.layer)
        if quantizer is not None:
            found += _parts(call, quantizer)
    return found


def _parts(call: Call, quantizer: Any) -> list[Sign]:
    """The sign of a layer; in groups of channels, that of each."""
    sign = Sign(call.label, call.inputs, quantizer)
    parts = binary_parts(call)
    if len(parts) < 2:
        return [sign]
    size, behind = call.inputs.shape[-1] // len(parts), call.label[len(call.name) :]
    return [
        sign._replace(label=name + behind, channels=slice(i * size, (i + 1) * size))
        for i, name in enumerate(parts)
    ]


def binary_layers(model: keras.Model) -> list[str]:
    """Lists the binary convolutions that a converted model should hold.

    Arguments:
        model: A built functional or Sequential Larq model.

    Returns:
        The names of convolutions and dense layers whose input and kernel both have two
        values (up to a scale per output channel), in the order of the network, once for
        every use, and of one in groups for every group.

    Raises:
        ConversionError: If `model` is no such model.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        len(nobn.deploy.binary_layers(model))  # 16
        ```
    """
    found = calls(as_functional(model))
    return [given_name(call.name) for call in found for _ in binary_parts(call)]
