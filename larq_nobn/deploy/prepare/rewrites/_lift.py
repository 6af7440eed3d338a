"""Keeps vectors and sequences as maps from one rewritten layer to the next.

A reshape between two binary convolutions would hide one from the other: no bits could
pass, and no gain or shift either.
"""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from ...._keras import keras
from ....graph import Call, calls, sign_of
from ....graph._replace import inputs_like, model_like, run_call
from ....layers import DynamicTanh
from .._inference import PlainAffine, PlainRPReLU
from .._quantizers import SIGNS

_keras = keras.activations
# Elementwise, or over the last axis, that of the channels.
_FUNCTIONS = (
    *(_keras.linear, _keras.relu, _keras.tanh, _keras.sigmoid, _keras.hard_sigmoid),
    *(_keras.swish, _keras.mish, _keras.gelu, _keras.elu, _keras.selu),
    *(_keras.exponential, _keras.softplus, _keras.softsign, _keras.softmax),
    *(lq.activations.hard_tanh, lq.activations.leaky_tanh),
    *(tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu, tf.nn.tanh, tf.nn.sigmoid),
    *(tf.nn.swish, tf.nn.gelu, tf.nn.elu, tf.nn.selu, tf.nn.softplus),
    *(tf.nn.softsign, tf.nn.softmax, tf.nn.log_softmax),
    *(tf.abs, tf.square, tf.exp, tf.identity),
)


def takes_any_rank(function: Any) -> bool:
    """Whether an activation is known to treat a map as it would treat its rows.

    What another function does depends on the axes that it counts from the front.
    """
    return any(function is known for known in _FUNCTIONS)


_layers = keras.layers
# They do the same to each channel, wherever on a map of whatever rank.
_ANY_RANK = (
    PlainAffine,
    PlainRPReLU,
    DynamicTanh,
    _layers.ReLU,
    _layers.LeakyReLU,
    _layers.Add,
    _layers.Subtract,
    _layers.Average,
    _layers.Maximum,
    _layers.Minimum,
)


def lift_to_maps(model: keras.Model) -> keras.Model:
    """Moves reshapes that keep the channels after what does not mind the shape.

    Those that meet the opposite reshape vanish with it.

    Arguments:
        model: A prepared model; its layers move into the new one.
    """
    found = calls(model)
    if not any(_lowers(call) for call in found):
        return model
    starts = inputs_like(model)
    tensors = {
        str(id(given)): start for given, start in zip(model.inputs, starts, strict=True)
    }
    maps: dict[str, Any] = {}  # what tensors are as maps
    # Weights of signs are of gradients, and may be made for one shape.
    weightless = {
        call.name: lq.quantizers.SteSign(name=call.name)
        for call in found
        if type(sign_of(call.layer)) in SIGNS and call.layer.weights
    }

    def plain(key: str, name: str, shape: Any) -> Any:
        """A tensor in the shape that it has in the given model."""
        if key not in tensors:
            reshape = _layers.Reshape(shape[1:], name=f"{name}/shape{len(tensors)}")
            tensors[key] = reshape(maps[key])
        return tensors[key]

    def flat(call: Call) -> dict[str, Any]:
        inputs = call.node.keras_inputs
        return {str(id(x)): plain(str(id(x)), call.name, x.shape) for x in inputs}

    for call in found:
        ids, made = call.node.flat_input_ids, str(id(call.first_output))
        lifted = [maps.get(key) for key in ids]
        layer = weightless.get(call.name, call.layer)
        if _lowers(call):
            [before] = flat(call).values() if lifted[0] is None else lifted
            maps[made] = before
        elif _undoes(call, lifted[0]):
            tensors[made] = lifted[0]
        elif _passes(call, lifted):
            given = dict(zip(ids, lifted, strict=True))
            maps[made] = run_call(call, layer, given)
        else:
            outputs = tf.nest.flatten(run_call(call, layer, flat(call)))
            tensors.update(zip(call.node.flat_output_ids, outputs, strict=False))
            if _lowers(call, back=True):
                maps.setdefault(ids[0], outputs[0])
    ends = [
        plain(str(id(end)), end._keras_history.layer.name, end.shape)
        for end in model.outputs
    ]
    return model_like(model, starts, ends)


def _lowers(call: Call, back: bool = False) -> bool:
    """Whether a call makes a vector or a sequence of a map, channel by channel.

    Arguments:
        call: Any.
        back: Whether to ask for the opposite.
    """
    if type(call.layer) not in (_layers.Reshape, _layers.Flatten):
        return False
    before, after = call.first_input.shape, call.first_output.shape
    if back:
        before, after = after, before
    return before.rank == 4 and after.rank < 4 and before[-1] == after[-1]


def _undoes(call: Call, lifted: Any) -> bool:
    reshape = type(call.layer) is _layers.Reshape and lifted is not None
    return reshape and call.first_output.shape[1:] == lifted.shape[1:]


def _passes(call: Call, lifted: list[Any]) -> bool:
    layer = call.layer
    known = type(layer) in _ANY_RANK or type(sign_of(layer)) in SIGNS
    if type(layer) is _layers.Activation:
        known = known or takes_any_rank(layer.activation)
    if not known or not lifted or any(x is None for x in lifted):
        return False
    return all(x.shape[1:] == lifted[0].shape[1:] for x in lifted)
