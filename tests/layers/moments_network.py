"""A residual network that carries moments along; run, it opens saved ones.

Started with a folder, by a test, it opens every file there in a process that knows of
nothing but larq_nobn, trains it for one step, and writes what it saw beside it.
"""

import sys
from pathlib import Path

import larq_nobn as nobn
import larq as lq
import numpy as np
from larq_nobn._keras import keras

SUFFIXES = (".keras", ".h5", ".saved_model")


def network(state=True):
    """One binary block after a stem; without state, its plain twin."""
    propagate = nobn.layers.propagate_moments
    image = keras.Input((6, 6, 2), name="image")
    stem = lq.layers.QuantConv2D(4, 3, padding="same", use_bias=False, name="stem")
    first = nobn.layers.BatchKalmanNormalization(name="first")
    x, posterior = first(stem(image))
    conv = lq.layers.QuantConv2D(
        *(4, 3),
        padding="same",
        pad_values=1.0,
        use_bias=False,
        input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(),
        name="conv",
    )
    second = nobn.layers.BatchKalmanNormalization(name="second")
    act = nobn.layers.RPReLU(name="act")
    if state:
        moments = propagate(first, posterior)
        features = conv(x)
        y, posterior = second([features, propagate(conv, moments)])
        branch = propagate(second, posterior)
        terms = zip(moments, branch, strict=True)
        moments = [keras.layers.Add()(list(pair)) for pair in terms]
        x = act(keras.layers.Add()([x, y]))
        head = keras.layers.Conv2D(3, 3, name="head")
        last = [head(x), propagate(head, propagate(act, moments))]
    else:
        y, _ = second(conv(x))
        x = act(keras.layers.Add()([x, y]))
        last = keras.layers.Conv2D(3, 3, name="head")(x)
    z, _ = nobn.layers.BatchKalmanNormalization(name="last")(last)
    model = keras.Model(image, z)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def batch():
    rng = np.random.default_rng(40)
    x = rng.normal(size=(4, 6, 6, 2)).astype(np.float32)
    return x, rng.normal(size=(4, 4, 4, 3)).astype(np.float32)


def seen(model):
    """Outputs in both modes, and all weights after one step."""
    x, y = batch()
    model.run_eagerly = True
    outputs = [np.asarray(model(x, training=False))]
    model.train_on_batch(x, y)
    return [*outputs, *model.get_weights()]


def main(folder):
    for suffix in SUFFIXES:
        model = keras.models.load_model(folder / f"network{suffix}")
        np.savez(folder / f"{suffix[1:]}.npz", *seen(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
