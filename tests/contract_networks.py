"""The networks in which the contract test places the objects of a row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
from contract_case import Case, Shape
from larq_nobn._keras import keras

# A kernel of this rank belongs to this Larq layer, and to this one without quantizers.
HOSTS = {
    2: (lq.layers.QuantDense, keras.layers.Dense),
    3: (lq.layers.QuantConv1D, keras.layers.Conv1D),
    4: (lq.layers.QuantConv2D, keras.layers.Conv2D),
    5: (lq.layers.QuantConv3D, keras.layers.Conv3D),
}


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    """Makes everything inside under the dtype policy `name`."""
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def input_shapes(shape: Shape | list[Shape]) -> list[Shape]:
    return shape if isinstance(shape, list) else [shape]


def draw(case: Case, shape: Shape | list[Shape], factor: float = 1.0) -> Any:
    """Inputs of the row's object itself: an array, or a list for several inputs."""
    rng = np.random.default_rng(21)
    arrays = [factor * case.draw(rng, each) for each in input_shapes(shape)]
    return arrays if isinstance(shape, list) else arrays[0]


def perturb(layer: keras.layers.Layer | keras.Model) -> None:
    """Moves every weight away from its start, where a wrong one could go unnoticed."""
    rng = np.random.default_rng(22)
    for weight in layer.weights:
        if weight.dtype.is_floating:
            moved = weight.numpy() + rng.uniform(-0.1, 0.1, weight.shape)
            weight.assign(tf.cast(moved, weight.dtype))


def names(weights: Iterable[Any]) -> tuple[str, ...]:
    return tuple(weight.name.split("/")[-1].split(":")[0] for weight in weights)


def call(case: Case, layer: Any, inputs: Any) -> Any:
    mode = {} if case.training is None else {"training": case.training}
    return layer(inputs, **mode)


def gradients(case: Case, layer: Any, inputs: Any, upstream: Any) -> dict[str, Any]:
    """Gradients by name; those of the inputs, nested as they are, as "x".

    What the layer adds to the losses counts as it does in training.
    """
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        actual = tf.nest.flatten(call(case, layer, inputs))
        terms = [
            tf.cast(y * tf.cast(g, y.dtype), tf.float64)
            for y, g in zip(actual, tf.nest.flatten(upstream), strict=True)
        ]
        added = [tf.cast(each, tf.float64) for each in layer.losses]
        loss = sum(map(tf.reduce_sum, terms)) + sum(added)
    trained = layer.trainable_weights
    weights = dict(zip(names(trained), trained, strict=True))
    return tape.gradient(loss, {"x": inputs, **weights})


def dense_or_convolution(kind: type, kernel: Shape, **kwargs: Any) -> Any:
    window = (kernel[:-2],) if len(kernel) > 2 else ()
    return kind(kernel[-1], *window, use_bias=False, **kwargs)


# What an object that belongs to a kernel is called among a layer's arguments.
OF_KERNELS = {"kernel": "kernel_quantizer", "regularizer": "kernel_regularizer"}


def host(case: Case, shape: Shape | list[Shape], layer: Any) -> tuple[Any, Any]:
    """What to call `layer` through in a network, and the shapes of its inputs."""
    if case.role not in OF_KERNELS:
        return layer, shape
    argument = {OF_KERNELS[case.role]: layer}
    wrapped = dense_or_convolution(HOSTS[len(shape)][0], shape, **argument)
    return wrapped, (2, *[5] * (len(shape) - 2), shape[-2])


def network(called: Any, shape: Shape | list[Shape], unknown: bool) -> keras.Model:
    """A functional model of one call, with static sizes or none but the channels."""

    def node(full: Shape) -> Any:
        sizes = (None,) * (len(full) - 1) + full[-1:] if unknown else full
        return keras.Input(batch_shape=sizes)

    nodes = [node(full) for full in input_shapes(shape)]
    actual = called(nodes if isinstance(shape, list) else nodes[0])
    return keras.Model(nodes, tf.nest.flatten(actual))


def side_by_side(models: Iterable[keras.Model]) -> keras.Model:
    """One model of several, which share nothing."""
    parts = list(models)
    inputs = [node for part in parts for node in part.inputs]
    return keras.Model(inputs, [node for part in parts for node in part.outputs])


@tf.autograph.experimental.do_not_convert  # as `test_calls_agree` has done for each
def trained_network(case: Case, layer: Any) -> tuple[keras.Model, Any]:
    """A model with weights on both sides of the row, and its input shapes."""
    called, shape = host(case, case.shapes[0], layer)
    nodes = [keras.Input(batch_shape=each) for each in input_shapes(shape)]
    before = keras.layers.Dense(nodes[0].shape[-1], name=f"before_{case.name}")
    first = before(nodes[0])
    inner = [first, *nodes[1:]] if isinstance(shape, list) else first
    return keras.Model(nodes, tf.nest.flatten(called(inner))), shape


@tf.autograph.experimental.do_not_convert
def deployed_network(case: Case, layer: Any) -> keras.Model:
    """The row beside a binary convolution that fits it, for Larq Compute Engine.

    A layer follows the convolution if its first input has rank 4, and stands alone
    otherwise. Its other inputs are constants, and of its outputs the first is kept.
    """
    first, *others = input_shapes(case.shapes[0])
    if case.role == "layer" and len(first) != 4:
        return network(layer, (None, *first[1:]), unknown=False)
    around: dict[str, Any] = {
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "pad_values": 1.0,
    }
    if case.role == "activation":
        around["input_quantizer"] = layer
    if case.role == "kernel":
        around = {"kernel_quantizer": layer}
        if layer.precision == 1:
            around |= {"input_quantizer": "ste_sign", "pad_values": 1.0}
    filters, sizes = (first[3], first[1:3]) if case.role == "layer" else (32, (8, 8))
    image = keras.Input((*sizes, 32))
    convolution = lq.layers.QuantConv2D(
        filters, 3, padding="same", use_bias=False, **around
    )
    y = convolution(image)
    if case.role == "layer":
        rest = [tf.constant(each, tf.float32) for each in draw(case, others)]
        y = layer([y, *rest] if rest else y)
    return keras.Model(image, tf.nest.flatten(y)[0])
