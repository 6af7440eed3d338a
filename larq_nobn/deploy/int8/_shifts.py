"""Moves shifts of a model that still trains to where int8 files hold them for free."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..._keras import keras, register
from ...graph import Call, Graph, is_binary_convolution, replace_layers
from ...layers import ChannelAffine, SkipInit
from ...layers._channelwise import ChannelwiseLayer

_layers = keras.layers
_KERNELS = (
    *(_layers.Conv1D, _layers.Conv2D, _layers.Conv3D, _layers.Dense),
    *(_layers.DepthwiseConv1D, _layers.DepthwiseConv2D),
    *(_layers.SeparableConv1D, _layers.SeparableConv2D),
)
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


def merge_shifts(model: keras.Model) -> keras.Model:
    """Returns the same function with as few shifts as can be that cost an operation.

    The shift of a sum goes to a summand that a convolution makes, which holds it. The
    shift behind a PReLU goes into whatever reads it, where all readers can: into the
    shift of a sign, and into the other summand of a sum.

    Arguments:
        model: A functional model; its layers move into the new one.
    """
    return _behind_prelu(_of_sums(model))


def _of_sums(model: keras.Model) -> keras.Model:
    graph = Graph(model)
    moved: dict[str, keras.layers.Layer] = {}  # by the layer that they go behind
    for call in graph.calls:
        total = graph.producer(call.first_input)
        if (
            _is_shift(call, graph)
            and total is not None
            and graph.sole_consumer(call.first_input) is call
            and (maker := _maker_of_summand(total, graph)) is not None
        ):
            moved[maker.name] = call.layer
    return _rebuilt(model, moved, {layer.name for layer in moved.values()})


def _behind_prelu(model: keras.Model) -> keras.Model:
    graph = Graph(model)
    new: dict[str, keras.layers.Layer] = {}
    values: list[tuple[ChannelShift, tf.Tensor]] = []
    gone = set()
    for call in graph.calls:
        before = graph.producer(call.first_input)
        if before is None or type(before.layer) is not _layers.PReLU:
            continue
        readers = graph.consumers(call.first_output)
        homes = [_home(reader, call, graph) for reader in readers]
        if (
            not _is_shift(call, graph)
            or graph.is_output(call.first_output)
            or None in homes
        ):
            continue
        gone.add(call.name)
        for home in filter(None, homes):
            layer = home.layer
            if not isinstance(layer, ChannelShift):
                layer = new.setdefault(
                    home.name, ChannelShift(name=f"{home.name}_bias")
                )
            values.append((layer, call.layer.shift))
    merged = _rebuilt(model, new, gone)
    for layer, value in values:
        layer.shift.assign_add(value)
    return merged


def _home(reader: Call, shift: Call, graph: Graph) -> Call | None:
    """What takes a shift instead of one of its readers, if anything does."""
    if _is_shift(reader, graph):
        return reader
    maker = _maker_of_summand(reader, graph)
    return None if maker is None or maker is shift else maker


def _is_shift(call: Call, graph: Graph) -> bool:
    return type(call.layer) is ChannelShift and len(graph.uses(call.name)) == 1


def _maker_of_summand(total: Call, graph: Graph) -> Call | None:
    """The convolution, or what follows it, that makes a summand and nothing else."""
    if type(total.layer) is not _layers.Add:
        return None
    for summand in total.inputs:
        maker = graph.producer(summand)
        if (
            maker is not None
            and graph.sole_consumer(summand) is total
            and len(graph.uses(maker.name)) == 1
            and is_linear(maker, graph)
        ):
            return maker
    return None


def _rebuilt(
    model: keras.Model, behind: dict[str, keras.layers.Layer], gone: set[str]
) -> keras.Model:
    if not gone:
        return model

    def place(call: Call) -> Any:
        if call.name in gone:
            return None
        if call.name not in behind:
            return call.layer
        return lambda *args, **kwargs: behind[call.name](call.layer(*args, **kwargs))

    return replace_layers(model, place)


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
