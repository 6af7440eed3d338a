"""Variables, optimizers and the rule of `ParameterGroups` for its tests."""

import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras

new = keras.optimizers
SHAPES = {"conv/kernel": (3, 3, 2, 4), "conv/gain": (4,), "head/kernel": (4, 3)}
MULTIPLIERS = {"^gain:0$": 4.0, "^head/": 0.25}
FACTORS = (1.0, 4.0, 0.25)


def momentum():
    return new.SGD(0.1, momentum=0.9, nesterov=True)


def rmsprop():
    return new.RMSprop(0.1, momentum=0.9, centered=True)


def scheduled():
    return new.SGD(new.schedules.ExponentialDecay(0.1, 1, 0.5), momentum=0.9)


def decaying():
    optimizer = new.AdamW(0.1, weight_decay=0.2, clipnorm=0.5)
    optimizer.exclude_from_weight_decay(var_names=["head"])
    return optimizer


OPTIMIZERS = {
    "sgd": new.SGD,
    "momentum": momentum,
    "schedule": scheduled,
    "decay": decaying,
    "rmsprop": rmsprop,
    **{
        name: getattr(new, name)
        for name in (
            *("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax"),
            *("Ftrl", "Lion", "Nadam"),
        )
    },
}


def variables(**arguments):
    rng = np.random.default_rng(1)
    return [
        tf.Variable(rng.normal(size=shape).astype("float32"), name=name, **arguments)
        for name, shape in SHAPES.items()
    ]


def gradients(seed=2):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in SHAPES.values()]


def apply(optimizer, raw, weights):
    optimizer.apply_gradients(list(zip(raw, weights, strict=True)))


def apply_by_hand(optimizer, raw, weights, factors):
    """One step of a plain optimizer, whose movements are then multiplied in NumPy."""
    start = [weight.numpy().astype("float64") for weight in weights]
    apply(optimizer, raw, weights)
    for before, weight, factor in zip(start, weights, factors, strict=True):
        if factor != 1:
            weight.assign(before + factor * (weight.numpy() - before))
