"""Takes layers apart whose inner sums need a range of their own in int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._keras import keras, register
from ..graph import Call, Graph, is_binary_convolution, replace_layers
from ..layers import ChannelAffine, RPReLU, SkipInit
from ..layers._channelwise import ChannelwiseLayer
from ..quantizers import RSign

_layers = keras.layers
_KERNELS = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense)
# They join the multiplier and the bias of a convolution in front of them.
AFFINE = (_layers.BatchNormalization, ChannelAffine, SkipInit)
_PLAIN = (None, keras.activations.linear)


@register()
class ChannelShift(ChannelwiseLayer):
    """x + shift, one learned shift per channel.

    Arguments:
        **kwargs: Keras layer arguments.

    Weights:
        shift: Shape (C,), starts at 0.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        self.shift = self._channel_weight("shift", "zeros", input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(self.shift, inputs.dtype)


def split_shifts(model: keras.Model) -> keras.Model:
    """Returns the same function with the shifts of RSign and RPReLU as layers.

    Gains that no convolution can hold become convolutions of single channels, which are
    one operation in int8, where a product and a sum would stay float.

    Arguments:
        model: A flat functional model; its layers move into the new one.
    """
    graph = Graph(model)
    fills: list[Callable[[], None]] = []

    def shift(name: str, values: tf.Tensor) -> ChannelShift:
        layer = ChannelShift(name=name)
        fills.append(lambda: layer.shift.assign(values))
        return layer

    def split(call: Call) -> Any:
        layer = call.layer
        if isinstance(layer, RPReLU):
            return _split_rprelu(call, shift, fills)
        if isinstance(layer, ChannelAffine) and _stands_alone(call, graph):
            return _depthwise(layer, fills)
        quantizer = layer if isinstance(layer, RSign) else _inner_rsign(layer)
        if quantizer is None or quantizer.shift is None:
            return layer
        # sign(a x + b) = sign(x + b / a) for positive a.
        before = shift(f"{call.name}_shift", quantizer.shift / quantizer.scale)
        plain = RSign(quantizer.scale, quantizer.estimator, shift=False)
        if quantizer is layer:
            plain._name = call.name
            return lambda x: plain(before(x))
        layer.input_quantizer = plain
        return lambda x: layer(before(x))

    new = replace_layers(model, split)
    for fill in fills:
        fill()
    return _shifts_before_sums(new)


def _stands_alone(call: Call, graph: Graph) -> bool:
    if call.first_input.shape.rank != 4:
        return False
    before = graph.producer(call.first_input)
    alone = graph.sole_consumer(call.first_input) is not None
    return before is None or not alone or not is_linear(before, graph)


def _depthwise(
    layer: ChannelAffine, fills: list[Callable[[], None]]
) -> keras.layers.Layer:
    new = _layers.DepthwiseConv2D(1, name=layer.name)

    def fill() -> None:
        kernel = tf.reshape(layer.gamma, new.depthwise_kernel.shape)
        new.set_weights([kernel.numpy(), layer.beta.numpy()])

    fills.append(fill)
    return new


def _inner_rsign(layer: keras.layers.Layer) -> RSign | None:
    quantizer = getattr(layer, "input_quantizer", None)
    return quantizer if isinstance(quantizer, RSign) else None


def _split_rprelu(
    call: Call, shift: Callable[..., ChannelShift], fills: list[Callable[[], None]]
) -> Callable[[Any], Any]:
    layer = call.layer
    first = shift(f"{call.name}_shift_in", layer.shift_in)
    last = shift(f"{call.name}_shift_out", layer.shift_out)
    positions = list(range(1, call.first_input.shape.rank - 1))
    inner = _layers.PReLU(shared_axes=positions or None, name=call.name)

    def fill() -> None:
        inner.alpha.assign(tf.reshape(layer.effective_slope(), inner.alpha.shape))

    fills.append(fill)
    return lambda x: last(inner(first(x)))


def _shifts_before_sums(model: keras.Model) -> keras.Model:
    """Moves shifts of sums to a summand that a convolution makes, which holds them."""
    graph = Graph(model)
    moved: dict[str, str] = {}  # from the name of a layer to that of its shift
    for call in graph.calls:
        if type(call.layer) is not ChannelShift or len(graph.uses(call.name)) > 1:
            continue
        total = graph.producer(call.first_input)
        if (
            total is not None
            and type(total.layer) is _layers.Add
            and graph.sole_consumer(call.first_input) is call
        ):
            makers = [
                maker
                for summand in total.inputs
                if (maker := graph.producer(summand)) is not None
                and graph.sole_consumer(summand) is total
                and len(graph.uses(maker.name)) == 1
                and is_linear(maker, graph)
            ]
            if makers:
                moved[makers[0].name] = call.name
    if not moved:
        return model
    shifts = set(moved.values())

    def move(call: Call) -> Any:
        if call.name in shifts:
            return None
        if call.name not in moved:
            return call.layer
        shift = model.get_layer(moved[call.name])
        return lambda *args, **kwargs: shift(call.layer(*args, **kwargs))

    return replace_layers(model, move)


def is_linear(call: Call, graph: Graph) -> bool:
    """Whether a convolution makes this, with no more than gains and biases behind."""
    layer = call.layer
    if isinstance(layer, _KERNELS):
        plain = getattr(layer, "activation", None) in _PLAIN
        # Larq's layers may hold the ReLU that LCE computes inside of its kernel.
        return plain or is_binary_convolution(call)
    if isinstance(layer, (*AFFINE, ChannelShift)):
        before = graph.producer(call.first_input)
        alone = graph.sole_consumer(call.first_input) is not None
        return before is not None and alone and is_linear(before, graph)
    return False
