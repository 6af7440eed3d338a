"""Small networks that the conversion tests share."""

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.deploy.trace._trace import Trace

INPUT = (8, 8, 3)
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
DEPTHWISE = {"input_quantizer": "ste_sign", "depthwise_quantizer": "ste_sign"}


def binary_conv(filters=32, size=3, name=None, **changes):
    """A plain Larq binary convolution; `changes` are arguments of QuantConv2D."""
    arguments = {
        "padding": "same",
        "pad_values": 1.0,
        "use_bias": False,
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "name": name,
    }
    return lq.layers.QuantConv2D(filters, size, **{**arguments, **changes})


def chain(*layers, shape=INPUT, stem=True, scramble=True, name="chain"):
    """A model of the given layers in a row, after a float stem of 32 channels."""
    inputs = keras.Input(shape)
    x = inputs
    if stem:
        x = keras.layers.Conv2D(32, 3, padding="same", name="stem")(x)
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x, name=name)
    return scrambled(model) if scramble else model


def head():
    return [
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(5, name="head"),
    ]


def scrambled(model, seed=0):
    """Moves every weight off its initial value, to the same place in every run."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        noise = 0.3 * random.normal(size=weight.shape)
        if "variance" in weight.name or "gain" in weight.name:
            noise = np.abs(noise)
        constant = weight.shape.rank < 2  # kernels start at random
        weight.assign(weight.numpy() + noise if constant else noise)
    return model


def small():
    """The least that converts: one binary convolution and a head."""
    return chain(binary_conv(4, name="only"), *head(), stem=False, name="small")


def images(count=8, shape=INPUT, seed=1):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, *shape)).astype(np.float32)


class OwnDense(lq.layers.QuantDense):
    """A user's layer, which might compute more than the one that it is made of."""


class OwnConv2D(lq.layers.QuantConv2D):
    """Likewise."""


class Block(keras.layers.Layer):
    """A layer of the user's that contains another."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


class OfFunction(keras.layers.Layer):
    """A user's layer of any function, whose operations nobody reads."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)

    def get_config(self):
        return {**super().get_config(), "function": self.function}


class Subclassed(keras.Model):
    """A model that shows none of its layers."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


class Constant(keras.layers.Layer):
    """A user's layer that adds or multiplies by a constant of some shape."""

    def __init__(self, shape, multiply=False, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.multiply = shape, multiply

    def build(self, input_shape):
        self.constant = self.add_weight("constant", self.shape, initializer="ones")

    def call(self, inputs):
        return inputs * self.constant if self.multiply else inputs + self.constant

    def get_config(self):
        own = {"shape": self.shape, "multiply": self.multiply}
        return {**super().get_config(), **own}


def as_traced(model, io):
    """What computes the operations of a model as they are, by no rule."""
    trace = Trace(model, io)
    given = trace.operations[0].graph.as_graph_def()
    names = [tensor.name for tensor in trace.inputs]
    graph = tf.compat.v1.GraphDef(versions=given.versions, library=given.library)
    graph.node.extend(x for x in given.node if f"{x.name}:0" not in names)
    ends = [tensor.name for tensor in trace.outputs]

    def function(inputs):
        starts = dict(zip(names, inputs, strict=True))
        return tf.graph_util.import_graph_def(graph, starts, ends, name="")

    return function
