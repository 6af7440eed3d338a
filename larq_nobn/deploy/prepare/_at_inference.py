r"""Writes single layers as they are at inference: fewer, and of numbers alone.

Identities go. A batch norm, `ChannelAffine`, `SkipInit` or `Rescaling` is y = k x + b.
An `RSign` is sign(a x + b) = sign(x + b / a), for a > 0. A quantized kernel is the
numbers that it stands for. A `SymmetricHead` is a dense layer of its class vectors.
`ProxyNormalization` is a group norm, the activation, and then an affine operation, for
its moments are those of its weights alone:

\[ \frac{f(\gamma\, \hat x + \beta) - m}{\sqrt{v + \epsilon}} . \]

Where f is a ReLU or a leaky one, the positive rate goes into γ and β. `RPReLU` and
Keras' group normalization are spelled for the converter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._larq import lq
from ...graph import _graph, _kinds, _models, _operation, _signs
from ...layers import (
    BatchKalmanNormalization,
    ChannelAffine,
    DynamicTanh,
    IndependentComponent,
    ProxyNormalization,
    RPReLU,
    SkipInit,
    SymmetricHead,
    _inference,
)
from ...layers._normalized_activation import FLOOR
from ...layers._proxy_moments import NEGATIVE_SLOPES
from ...quantizers._measured import MeasuredQuantizer
from ...quantizers._rsign import ThresholdSign
from ...rewrites._batch_norm import batch_norm_affine, is_over_channels
from ...rewrites._rule import Edit, affine_operation, rule

_layers = keras.layers
_Numbers = tuple[Any, Any]


@rule
def identity_goes(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Leaves out what does nothing at inference: dropout, noise and their kin."""
    if not _signs.is_identity(call.node):
        return None
    return Edit(graph.with_row(call.name, []))


@rule
def random_crop_resizes(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes a `RandomCrop` as the resizing that it is at inference."""
    layer = call.layer
    if type(layer) is not _layers.RandomCrop:
        return None
    size = {"height": layer.height, "width": layer.width}
    arguments = {**size, "crop_to_aspect_ratio": True}
    resized = _operation.Operation(call.name, _layers.Resizing, None, arguments)
    return Edit(graph.with_operation(resized))


@rule
def sign_is_plain(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes a sign, or a function that is one, as a quantizer without a scale."""
    layer = call.layer
    given = layer.activation if type(layer) is _layers.Activation else layer
    known = isinstance(given, ThresholdSign) or type(given) is lq.quantizers.SteTern
    if not known and (
        _signs.sign_of_layer(layer) is None
        or _signs.as_quantizer(given, at_inference=True) is given
    ):
        return None
    return Edit(graph.with_operation(plain_quantizer(given, call.name)))


def plain_quantizer(quantizer: Any, name: str = "") -> Any:
    """Returns the operation of a quantizer at inference; None for none.

    A function that is no sign stays one.

    Arguments:
        quantizer: Of activations.
        name: Of the operation; that of the quantizer if empty.
    """
    quantizer = _signs.as_quantizer(quantizer, at_inference=True)
    if not isinstance(quantizer, keras.layers.Layer):
        return quantizer
    name = name or quantizer.name
    if isinstance(quantizer, ThresholdSign):
        shift = quantizer.whole_shift()
        return shifted_sign(
            name, None if shift is None else shift / np.float32(quantizer.scale)
        )
    if type(quantizer) is lq.quantizers.SteTern:
        adapts = quantizer.ternary_weight_networks
        threshold = None if adapts else quantizer.threshold_value
        return _operation.Operation(
            name, _inference.PlainTernary, None, {"threshold": threshold}
        )
    unmeasured = {"metrics": None} if isinstance(quantizer, MeasuredQuantizer) else {}
    return _operation.operation_of(quantizer, name).replaced(arguments=unmeasured)


def shifted_sign(name: str, shift: np.ndarray | None = None) -> _operation.Operation:
    """Returns the operation sign(x + shift); None for 0."""
    shift = None if shift is None or not np.any(shift) else shift
    return _operation.Operation(name, _inference.ShiftedSign, None, {"shift": shift})


@rule
def rprelu_is_plain(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Spells an RPReLU for the converter; training spells it for speed."""
    layer = call.layer
    if not isinstance(layer, RPReLU):
        return None
    weights = (layer.shift_in, layer.effective_slope(), layer.shift_out)
    names = ("shift_in", "slope", "shift_out")
    values = {k: w.numpy() for k, w in zip(names, weights, strict=True)}
    return Edit(
        graph.with_operation(
            _operation.Operation(call.name, _inference.PlainRPReLU, None, values)
        )
    )


@rule
def layer_is_affine(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Makes an affine operation of batch norm and its kin."""
    # Subclasses may compute more; those of this package are listed.
    numbers_of = _NUMBERS.get(type(call.layer))
    # An affine operation of whole numbers, such as bins, drops what is after the point.
    ends = (call.first_input, call.first_output)
    is_real = all(end.dtype.is_floating for end in ends)
    numbers = numbers_of(call) if numbers_of is not None and is_real else None
    if numbers is None:
        return None
    return Edit(graph.with_row(call.name, [affine_operation(call.name, *numbers)]))


@rule
def normalization_is_affine(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Makes an affine operation of a `Normalization` within a model.

    Its constants have as many axes as its input, which LCE fuses wrongly after a binary
    convolution. After an input of the model, scaled or not, it stays: where a mean is
    large beside the standard deviation, x - mean is exact, and k x + b is not.
    """
    layer, source = call.layer, graph.producer(call.first_input)
    if type(layer) is not _layers.Normalization:
        return None
    while source is not None and _is_scaled(source):
        source = graph.producer(source.first_input)
    mean, deviation = np.asarray(layer.mean), np.sqrt(layer.variance)
    per_channel = mean.size in (1, mean.shape[-1])
    if source is None or not per_channel:
        return None
    mean, deviation = mean.ravel(), np.maximum(deviation, keras.backend.epsilon())
    scale = deviation.ravel() if layer.invert else 1 / deviation.ravel()
    bias = mean if layer.invert else -mean * scale
    return Edit(graph.with_row(call.name, [affine_operation(call.name, scale, bias)]))


def _is_scaled(call: _graph.Call) -> bool:
    kind = _kinds.traits(call.operation.kind)
    return kind.affine or kind.reshapes or kind.idle


def _batch_norm(call: _graph.Call) -> _Numbers | None:
    if not is_over_channels(call) or _models.training_argument(call):
        return None
    return batch_norm_affine(call.layer)


def _rescaling(call: _graph.Call) -> _Numbers | None:
    numbers = np.asarray(call.layer.scale), np.asarray(call.layer.offset)
    per_channel = all(x.shape in ((), call.inputs.shape[-1:]) for x in numbers)
    # Of whole numbers, such as pixels, a Rescaling also makes floats.
    return numbers if per_channel and call.inputs.dtype.is_floating else None


_NUMBERS: dict[type, Callable[[_graph.Call], _Numbers | None]] = {
    _layers.BatchNormalization: _batch_norm,
    IndependentComponent: _batch_norm,
    BatchKalmanNormalization: _batch_norm,
    ChannelAffine: lambda call: (call.layer.gamma.numpy(), call.layer.beta.numpy()),
    SkipInit: lambda call: (call.layer.gain.numpy(), 0.0),
    _layers.Rescaling: _rescaling,
}


@rule
def dynamic_tanh_in_parts(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes a `DynamicTanh` as layers in a row: scale, tanh, scale and bias."""
    layer, name = call.layer, call.name
    if type(layer) is not DynamicTanh:
        return None
    tanh = {"activation": keras.activations.tanh}
    row = [
        affine_operation(f"{name}/scale", layer.alpha.numpy(), 0.0),
        _operation.Operation(f"{name}/tanh", _layers.Activation, None, tanh),
        affine_operation(name, layer.gamma.numpy(), layer.beta.numpy()),
    ]
    return Edit(graph.with_row(name, row))


@rule
def proxy_norm_in_parts(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes Proxy Norm as layers in a row: group norm, activation, scale and bias."""
    layer, name = call.layer, call.name
    if type(layer) is not ProxyNormalization:
        return None
    gamma, beta = map(tf.convert_to_tensor, (layer.gamma, layer.beta))
    moments = layer._proxy_moments(gamma, beta)
    center, variance = (np.asarray(moment, np.float64) for moment in moments)
    rate = 1 / np.sqrt(variance + layer.epsilon)
    rectifies = layer.get_config()["activation"] in list(NEGATIVE_SLOPES)
    inner, outer = (rate, 1.0) if rectifies else (1.0, rate)
    # Named as parts of the layer, so that what is found in a file names it.
    norm = _group_norm(f"{name}/norm", layer.groups, FLOOR, gamma * inner, beta * inner)
    last = {"activation": layer.activation}
    activation = _operation.Operation(
        f"{name}/activation", _layers.Activation, None, last
    )
    affine = affine_operation(name, outer, -center * rate)
    linear = layer.activation is keras.activations.linear
    row = [norm, affine] if linear else [norm, activation, affine]
    return Edit(graph.with_row(name, row))


def _group_norm(
    name: str, groups: int, epsilon: float, gamma: Any, beta: Any
) -> _operation.Operation:
    arguments = {"groups": groups, "epsilon": epsilon, "gamma": gamma, "beta": beta}
    return _operation.Operation(
        name, _inference.PlainGroupNormalization, None, arguments
    )


@rule
def group_norm_is_plain(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Spells Keras' group norm over the last axis for the converter."""
    layer, kind = call.layer, _layers.GroupNormalization
    if type(layer) is not kind or layer.axis not in (-1, call.inputs.shape.rank - 1):
        return None
    channels = call.inputs.shape[-1]
    gamma = layer.gamma.numpy() if layer.scale else np.ones(channels)
    beta = layer.beta.numpy() if layer.center else np.zeros(channels)
    new = _group_norm(call.name, layer.groups, layer.epsilon, gamma, beta)
    return Edit(graph.with_operation(new))


@rule
def head_is_dense(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Makes a dense layer of the class vectors of a `SymmetricHead`."""
    layer = call.layer
    if type(layer) is not SymmetricHead:
        return None
    arguments = {"units": layer.classes, "use_bias": False}
    values = {"kernel": layer.class_vectors().numpy()}
    dense = _operation.Operation(call.name, _layers.Dense, None, arguments, values)
    return Edit(graph.with_operation(dense))


@rule
def kernel_is_numbers(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Makes the numbers of a quantized kernel that it stands for."""
    operation = call.operation
    folded = [name for name in _operation.KERNELS if operation.quantizer(name)]
    own = operation.argument("input_quantizer")
    if not folded and own is None:
        return None
    values = {
        n: _signs.quantized(operation, n) for n in folded if n in operation.arrays
    }
    arguments = {_operation.KERNELS[name]: None for name in folded}
    if own is not None:
        arguments["input_quantizer"] = plain_quantizer(own)
    return Edit(graph.with_operation(operation.replaced(values, arguments)))
