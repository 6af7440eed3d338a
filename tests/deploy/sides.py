"""Networks side by side in one file, compared with what Keras makes of each."""

import numpy as np
import tensorflow as tf
from deploy.nets import images
from larq_nobn._keras import keras
from larq_nobn.deploy import Runner, convert


def beside(networks):
    """One model of several, each after inputs of its own."""
    starts, ends = [], []
    for network in networks:
        given = [keras.Input(x.shape[1:], dtype=x.dtype) for x in network.inputs]
        starts += given
        ends += tf.nest.flatten(network(given if len(given) > 1 else given[0]))
    return keras.Model(starts, ends)


def examples(model, count=4):
    shapes = [given.shape[1:] for given in model.inputs]
    return [images(count, shape, seed=n) for n, shape in enumerate(shapes)]


def outputs(model, arrays):
    actual = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    return [np.asarray(x) for x in (actual if isinstance(actual, list) else [actual])]


def compared(model, folder, count=4, **options):
    """Converts a model, and returns the report and how far each output is off."""
    path, arrays = folder / "m.tflite", examples(model, count)
    data = arrays if len(arrays) > 1 else arrays[0]
    report = convert(model, path, data=data, **options)
    actual = Runner(path.read_bytes()).outputs(arrays)
    pairs = zip(actual, outputs(model, arrays), strict=True)
    return report, [float(np.abs(y - expected).max()) for y, expected in pairs]
