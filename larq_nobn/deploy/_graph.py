"""Reads the graph of a functional model: its calls, its signs, its binary layers."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import larq as lq

from .._keras import keras
from ..layers import (
    ActivationStandardization,
    BatchKalmanNormalization,
    BatchNormalizationPreconditioning,
    SignFlipDropout,
)
from ._errors import ConversionError
from ._quantizers import is_binary, kernel_value, split_kernel

_layers = keras.layers

# At inference these return their input: what they do, they do in training.
TRAINING_ONLY = (
    _layers.Dropout,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
    _layers.SpatialDropout3D,
    _layers.AlphaDropout,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.ActivityRegularization,
    _layers.RandomFlip,
    _layers.RandomTranslation,
    _layers.RandomRotation,
    _layers.RandomZoom,
    _layers.RandomContrast,
    _layers.RandomBrightness,
    ActivationStandardization,
    SignFlipDropout,
)


class Call(NamedTuple):
    """One use of a layer; a layer used twice has two.

    The name is that of the layer in the graph, the layer what it is at inference.
    """

    label: str
    name: str
    layer: keras.layers.Layer
    inputs: Any
    outputs: Any
    node: Any


class Sign(NamedTuple):
    """One place where a feature map becomes ±1."""

    label: str
    tensor: Any
    quantizer: Any


def as_functional(model: Any) -> keras.Model:
    """Returns a plain functional model over the given model's own layers.

    Raises:
        ConversionError: If `model` is no built functional or Sequential Keras model
            with one input of known size, one output and no model inside.
    """
    if not isinstance(model, keras.Model):
        raise ConversionError(
            f"{model!r} is not a Keras model. Pass a functional or Sequential model "
            "of legacy Keras (tf_keras)."
        )
    if not getattr(model, "_is_graph_network", False):
        raise ConversionError(
            f"Model {model.name!r} has no layer graph: it is subclassed, or a "
            "Sequential model without a known input shape. Write it with keras.Input "
            "and keras.Model, or call build(input_shape) first."
        )
    inside = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if inside:
        raise ConversionError(
            f"Layer {inside[0]!r} of model {model.name!r} is itself a model. Call its "
            "layers directly, so that every layer has one name in the report."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(
            f"Model {model.name!r} has {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs, but only one of each can be converted. "
            "Build one keras.Model per output."
        )
    shape = tuple(model.inputs[0].shape)
    if None in shape[1:]:
        raise ConversionError(
            f"The input shape {shape} of model {model.name!r} leaves more open than "
            "the batch size. Build the model with a fixed image size."
        )
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def calls(model: keras.Model) -> list[Call]:
    """Lists the layer calls of inference, each behind the calls that it depends on."""
    by_depth = model._nodes_by_depth
    needed = _needed(model.output)
    nodes = [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input and node in needed
    ]
    uses = Counter(node.layer.name for node in nodes)
    seen: Counter[str] = Counter()
    found = []
    for node in nodes:
        name = node.layer.name
        seen[name] += 1
        label = name if uses[name] == 1 else f"{name} (use {seen[name]})"
        layer = _at_inference(node.layer)
        inputs = _inputs(node)[0] if _ignores_state(node) else node.input_tensors
        found.append(Call(label, name, layer, inputs, node.outputs, node))
    return found


def _needed(output: Any) -> set[Any]:
    """The nodes that a tensor depends on at inference."""
    found, left = set(), [output]
    while left:
        layer, index, _ = left.pop()._keras_history
        node = layer.inbound_nodes[index]
        if node not in found:
            found.add(node)
            left += _inputs(node)
    return found


def _ignores_state(node: Any) -> bool:
    return isinstance(node.layer, BatchKalmanNormalization)


def _inputs(node: Any) -> list[Any]:
    """The symbolic tensors that a call reads at inference."""
    return node.keras_inputs[:1] if _ignores_state(node) else node.keras_inputs


def _at_inference(layer: keras.layers.Layer) -> keras.layers.Layer:
    preconditioned = isinstance(layer, BatchNormalizationPreconditioning)
    return layer.layer if preconditioned else layer


def sign_of(layer: keras.layers.Layer) -> Any:
    """Returns the quantizer if this layer is nothing but one, and binary."""
    if isinstance(layer, lq.quantizers.Quantizer) and is_binary(layer):
        return layer
    if isinstance(layer, _layers.Activation) and is_binary(layer.activation):
        return layer.activation
    return None


def signs(model: keras.Model) -> list[Sign]:
    """Lists every sign of the model, each behind the signs that it depends on."""
    found = []
    for call in calls(model):
        inner = getattr(call.layer, "input_quantizer", None)
        quantizer = inner if is_binary(inner) else sign_of(call.layer)
        if quantizer is not None:
            found.append(Sign(call.label, call.inputs, quantizer))
    return found


def has_sign_input(call: Call) -> bool:
    """Tells whether what meets the kernel in this call is the output of a sign."""
    if is_binary(getattr(call.layer, "input_quantizer", None)):
        return True
    return not isinstance(call.inputs, list) and _comes_from_sign(call.inputs)


def _comes_from_sign(tensor: Any) -> bool:
    layer, index, _ = tensor._keras_history
    if isinstance(layer, TRAINING_ONLY):
        return _comes_from_sign(layer.get_input_at(index))
    return sign_of(layer) is not None


def is_binary_convolution(call: Call) -> bool:
    """Tells whether LCE should find a binary convolution in this call."""
    layer = call.layer
    # A Conv2DTranspose is a Conv2D to Python; it is none to LCE.
    plain = isinstance(layer, lq.layers.QuantConv2D) or type(layer) is _layers.Conv2D
    if not plain or not has_sign_input(call):
        return False
    if is_binary(getattr(layer, "kernel_quantizer", None)):
        return True
    return split_kernel(kernel_value(layer.kernel)) is not None


def binary_layers(model: keras.Model) -> list[str]:
    """Lists the binary convolutions that a converted model should hold.

    Arguments:
        model: A built functional or Sequential Larq model.

    Returns:
        The names of 2D convolutions whose input and kernel are both ±1 (up to a scale
        per output channel), in the order of the network, once for every use.

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
    return [call.name for call in found if is_binary_convolution(call)]
