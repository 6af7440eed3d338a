"""What is known of each kind of layer: one table, which every pass over a graph asks.

Exact classes, because what a subclass computes besides is not known. What concerns one
pass alone stays with it: which layers of an int8 file share a range, which ones were
surely meant to stay binary, which can have another quantizer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import larq as lq
import numpy as np

from .._keras import keras
from ..layers._grouped import GroupedConv2D
from ._calls import Call

_layers = keras.layers
_quant = lq.layers


class Commutation(NamedTuple):
    """What a layer L without kernel lets through, of numbers per channel of its input.

    Attributes:
        gain: Whether L(k x) = k L(x) for every k >= 0.
        negative: Whether also for k < 0.
        shift: Whether L(x + s) = L(x) + s for every s.
        factor: Whether L(f x) = f L(x) for every number f > 0, the same for all
            channels; of several inputs, for all of them.
        tiles: Whether the output has the channels of several positions in a row, so
            that k and s repeat there.
    """

    gain: bool = False
    negative: bool = False
    shift: bool = False
    factor: bool = False
    tiles: bool = False


_ALL = Commutation(gain=True, negative=True, shift=True, factor=True)
_RISING = _ALL._replace(negative=False)
_RECTIFIES = _RISING._replace(shift=False)
_BORDERS = _ALL._replace(shift=False)  # zeros, which are not shifted
_TILES = _ALL._replace(tiles=True)
_FACTOR = Commutation(factor=True)
_NOTHING = Commutation()

_COMMUTATIONS: dict[type, Commutation] = {
    # What pads their input is left out of the average, and of the maximum.
    _layers.AveragePooling1D: _ALL,
    _layers.AveragePooling2D: _ALL,
    _layers.AveragePooling3D: _ALL,
    _layers.GlobalAveragePooling1D: _ALL,
    _layers.GlobalAveragePooling2D: _ALL,
    _layers.GlobalAveragePooling3D: _ALL,
    _layers.MaxPooling1D: _RISING,
    _layers.MaxPooling2D: _RISING,
    _layers.MaxPooling3D: _RISING,
    _layers.GlobalMaxPooling1D: _RISING,
    _layers.GlobalMaxPooling2D: _RISING,
    _layers.GlobalMaxPooling3D: _RISING,
    _layers.UpSampling1D: _ALL,
    _layers.UpSampling2D: _ALL,
    _layers.UpSampling3D: _ALL,
    _layers.Cropping1D: _ALL,
    _layers.Cropping2D: _ALL,
    _layers.Cropping3D: _ALL,
    _layers.ZeroPadding1D: _BORDERS,
    _layers.ZeroPadding2D: _BORDERS,
    _layers.ZeroPadding3D: _BORDERS,
    _layers.Flatten: _TILES,
    _layers.Reshape: _TILES,
    _layers.Permute: _FACTOR,
    _layers.ReLU: _RECTIFIES,
    _layers.LeakyReLU: _RECTIFIES,
    _layers.PReLU: _RECTIFIES,
    # Of their inputs each may have other gains; `weights_of_sum` says more of shifts.
    _layers.Concatenate: _FACTOR,
    _layers.Add: _FACTOR,
    _layers.Subtract: _FACTOR,
    _layers.Average: _FACTOR,
    _layers.Maximum: _FACTOR,
    _layers.Minimum: _FACTOR,
}
_ACTIVATIONS = {keras.activations.linear: _ALL, keras.activations.relu: _RECTIFIES}


def commutation(call: Call) -> Commutation:
    """What a call lets through; nothing, of a layer that is not known here."""
    layer = call.layer
    if not issubclass(call.operation.kind, type(layer)):  # an edit replaced it
        return _NOTHING
    if type(layer) is _layers.Activation:
        return _ACTIVATIONS.get(layer.activation, _NOTHING)
    if symbol_of(layer) in SUMS:
        return _NOTHING if constants_of(call) else _FACTOR
    found = _COMMUTATIONS.get(type(layer), _NOTHING)
    if type(layer) is _layers.ReLU and (layer.max_value is not None or layer.threshold):
        return _NOTHING
    if found.tiles:
        before, after = (x.shape[-1] for x in (call.first_input, call.first_output))
        found = found if before and after and after % before == 0 else _FACTOR
    if not is_channels_last(layer):
        return _FACTOR if found.factor else _NOTHING
    return found


def is_channels_last(layer: keras.layers.Layer) -> bool:
    """Whether the last axis of a layer's maps is that of the channels."""
    return getattr(layer, "data_format", "channels_last") == "channels_last"


# The functions of TensorFlow that Keras makes layers of in x + y and x - y, and the
# factors of x and y.
SUMS = {"__operators__.add": (1, 1), "math.add": (1, 1), "math.subtract": (1, -1)}


def weights_of_sum(call: Call) -> np.ndarray | None:
    """The factors with which a call adds up its inputs, (inputs,).

    None if it does something else, or reads a single tensor.
    """
    layer, kind = call.layer, type(call.layer)
    inputs = call.reads
    if len(inputs) < 2:
        return None
    if kind is _layers.Add:
        return np.ones(len(inputs))
    if kind is _layers.Average:
        return np.full(len(inputs), 1 / len(inputs))
    if kind is _layers.Subtract:
        return np.array([1.0, -1.0])
    if symbol_of(layer) in SUMS and not constants_of(call):
        return np.array(SUMS[symbol_of(layer)], float)
    return None


def symbol_of(layer: keras.layers.Layer) -> str:
    """The TensorFlow function of a layer that stands for one, as in `x + y`."""
    return getattr(layer, "symbol", "")


def constants_of(call: Call) -> list[Any]:
    """What such a function is given besides tensors of the model, and its name."""
    arguments = {**dict(enumerate(call.node.call_args)), **call.node.call_kwargs}
    arguments.pop("name", None)
    tensors = [id(tensor) for tensor in call.node.keras_inputs]
    return [x for x in arguments.values() if id(x) not in tensors]


class Kernels(NamedTuple):
    """The kernels of a layer that is linear up to its activation.

    Attributes:
        first: The attribute of the kernel that meets the input.
        last: Of the kernel that makes the output.
        axes: What the last two axes of the first kernel are.
    """

    first: str
    last: str
    axes: str


PLAIN = Kernels("kernel", "kernel", "channels in, channels out")
DEPTHWISE = Kernels("depthwise_kernel", "depthwise_kernel", "channels in, out of each")
SEPARABLE = DEPTHWISE._replace(last="pointwise_kernel")
TRANSPOSED = PLAIN._replace(axes="channels out, channels in")

_KERNELS: dict[type, Kernels] = {
    _layers.Dense: PLAIN,
    _layers.Conv1D: PLAIN,
    _layers.Conv2D: PLAIN,
    _layers.Conv3D: PLAIN,
    _quant.QuantDense: PLAIN,
    _quant.QuantConv1D: PLAIN,
    _quant.QuantConv2D: PLAIN,
    _quant.QuantConv3D: PLAIN,
    GroupedConv2D: PLAIN,
    _layers.DepthwiseConv1D: DEPTHWISE,
    _layers.DepthwiseConv2D: DEPTHWISE,
    _quant.QuantDepthwiseConv2D: DEPTHWISE,
    _layers.SeparableConv1D: SEPARABLE,
    _layers.SeparableConv2D: SEPARABLE,
    _quant.QuantSeparableConv1D: SEPARABLE,
    _quant.QuantSeparableConv2D: SEPARABLE,
    _layers.Conv1DTranspose: TRANSPOSED,
    _layers.Conv2DTranspose: TRANSPOSED,
    _layers.Conv3DTranspose: TRANSPOSED,
    _quant.QuantConv2DTranspose: TRANSPOSED,
    _quant.QuantConv3DTranspose: TRANSPOSED,
}


def kernels_of(layer: keras.layers.Layer) -> Kernels | None:
    """Where the kernels of a layer are; None if it is not known to be linear."""
    return _KERNELS.get(type(layer))
