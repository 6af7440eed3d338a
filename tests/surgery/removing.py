"""Small networks that the tests of `remove_batch_norm` share."""

import numpy as np
from larq_nobn._keras import keras
from surgery import parts

layers = keras.layers


def image(channels=4, size=8):
    return keras.Input((size, size, channels))


def conv(x, name, channels=4, size=3, strides=1, **kwargs):
    return parts.conv(x, channels, size, strides, name=name, **kwargs)


def binary(x, name, channels=4, size=3, strides=1, **kwargs):
    options = {"pad_values": 1.0, "name": name, **kwargs}
    return parts.binary(x, channels, size, strides, **options)


def norm(x, name, **kwargs):
    return parts.norm(x, name=name, **kwargs)


def stem(x, channels=4):
    return norm(conv(x, "stem", channels), "stem_norm")


def randomized(model, seed=0):
    """Moves every weight of a batch norm to where training may leave it."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                values = rng.uniform(0.5, 1.5, weight.shape)
                if "gamma" in weight.name or "mean" in weight.name:
                    values *= rng.choice([-1, 1], weight.shape)
                weight.assign(values)
    return model


def noise(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scales(model):
    """(of the sign, of the kernel) of every quantized layer, by name."""
    actual = {}
    for layer in model.layers:
        pair = [getattr(layer, f"{p}_quantizer", None) for p in ("input", "kernel")]
        if any(pair):
            actual[layer.name] = tuple(q and q.scale for q in pair)
    return actual
