"""What the subjects of surgery are made of, and how their weights come about."""

from __future__ import annotations

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn import layers as nobn_layers
from larq_nobn._keras import keras

layers = keras.layers
SHAPE = (16, 16, 3)
SIGNS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}


def image_input(shape=SHAPE, **kwargs):
    """An input of the type that layers compute in: Keras would take float32."""
    dtype = keras.mixed_precision.global_policy().compute_dtype
    return keras.Input(shape, dtype=dtype, **kwargs)


def norm(x, **kwargs):
    return layers.BatchNormalization(**kwargs)(x)


def conv(x, filters, size=3, strides=1, **kwargs):
    arguments = {"padding": "same", "use_bias": False, **kwargs}
    return layers.Conv2D(filters, size, strides, **arguments)(x)


def binary(x, filters, size=3, strides=1, **kwargs):
    arguments = {"padding": "same", "use_bias": False, **SIGNS, **kwargs}
    return lq.layers.QuantConv2D(filters, size, strides, **arguments)(x)


def head(x):
    # Logits: a softmax would hide differences.
    x = layers.Activation("relu")(x)
    return layers.Dense(5)(layers.GlobalAveragePooling2D()(x))


def images(count: int = 32, shape: tuple[int, ...] = SHAPE, seed: int = 1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *shape)).astype(np.float32)


def batch_norms(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer of the model that normalizes over the batch, also in inner models."""
    kinds = (layers.BatchNormalization, nobn_layers.BatchKalmanNormalization)
    return [layer for layer in model.submodules if isinstance(layer, kinds)]


def settled(model: keras.Model, seed: int = 0, zero: bool = False) -> keras.Model:
    """Moves statistics, factors and biases to where training may leave them.

    Statistics are those of one batch, roughly; factors have both signs, and that of one
    channel is tiny, or with `zero` exactly 0 in every second batch norm.
    """
    rng = np.random.default_rng(seed)
    norms = batch_norms(model)
    plain = [layer for layer in norms if isinstance(layer, layers.BatchNormalization)]
    momenta = [layer.momentum for layer in plain]
    for layer in plain:
        layer.momentum = 0.0
    model([images(16, x.shape[1:], seed) for x in model.inputs], training=True)
    for layer, momentum in zip(plain, momenta, strict=True):
        layer.momentum = momentum
    for index, layer in enumerate(norms):
        mean, variance = layer.moving_mean, layer.moving_variance
        size = mean.shape
        mean.assign_add(0.3 * tf.sqrt(variance) * rng.normal(size=size))
        variance.assign(0.01 + variance * rng.uniform(0.5, 2.0, size))
        if layer.gamma is not None:
            gamma = rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.5, size)
            gamma[0] *= 0.0 if zero and index % 2 else 1e-5
            layer.gamma.assign(gamma)
        if layer.beta is not None:
            layer.beta.assign(0.5 * rng.normal(size=size))
    owned = {id(weight) for layer in norms for weight in layer.weights}
    for weight in model.trainable_weights:
        if id(weight) not in owned and (
            weight.shape.rank == 1 or "alpha" in weight.name
        ):
            weight.assign_add(rng.uniform(-0.2, 0.3, weight.shape))
    return model
