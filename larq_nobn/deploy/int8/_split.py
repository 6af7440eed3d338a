"""Takes layers apart whose inner sums need a range of their own in int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ..._keras import keras
from ...graph import Call, Graph, replace_layers
from ...layers import ChannelAffine, RPReLU
from ...quantizers import RSign
from ._shifts import ChannelShift, is_linear, merge_shifts

_layers = keras.layers


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
        if quantizer is None or (whole := quantizer.whole_shift()) is None:
            return layer
        # sign(a x + b) = sign(x + b / a) for positive a.
        before = shift(f"{call.name}_shift", whole / quantizer.scale)
        plain = _without_shift(quantizer)
        if quantizer is layer:
            plain._name = call.name
            return lambda x: plain(before(x))
        layer.input_quantizer = plain
        return lambda x: layer(before(x))

    new = replace_layers(model, split)
    for fill in fills:
        fill()
    return merge_shifts(new)


def _without_shift(quantizer: RSign) -> RSign:
    power = 1.0 if quantizer.power is None else float(quantizer.power)
    return RSign(quantizer.scale, quantizer.estimator, shift=False, power=power)


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
