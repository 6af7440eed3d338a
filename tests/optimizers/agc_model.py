"""A tiny network and its data, for tests that train and save."""

import larq as lq
import numpy as np
from larq_nobn._keras import keras

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 8, 8, 3)).astype("float32")
LABELS = RNG.integers(0, 3, 8)


def build(optimizer, kernel_quantizer="ste_sign", policy="float32", **arguments):
    """Conv, binary conv, PReLU and head, compiled; the same weights at every call."""
    keras.utils.set_random_seed(1)
    keras.mixed_precision.set_global_policy(policy)
    binary = lq.layers.QuantConv2D(
        4,
        3,
        kernel_quantizer=kernel_quantizer,
        kernel_constraint="weight_clip",
        name="binary",
    )
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv"),
            binary,
            layers.PReLU(shared_axes=(1, 2), name="prelu"),
            layers.Flatten(),
            layers.Dense(3, dtype="float32", name="head"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **arguments)
    if not model.run_eagerly and hasattr(model.optimizer, "build"):
        model.optimizer.build(model.trainable_variables)  # or it is traced once more
    keras.mixed_precision.set_global_policy("float32")
    return model


def eager(*arguments, **options):
    """The same without a graph, which takes longer to trace than a few steps take."""
    return build(*arguments, run_eagerly=True, **options)


def opened(path):
    """A model from a file, as `eager` makes them."""
    model = keras.models.load_model(path)
    model.run_eagerly = True  # which not every kind of file keeps
    return model


def train(model, epochs=1):
    """Two steps per epoch, always on the same batches, at half the cost of `fit`."""
    for _ in range(epochs):
        for batch in (slice(4), slice(4, 8)):
            model.train_on_batch(IMAGES[batch], LABELS[batch])


def fit(model, epochs=1, *callbacks):
    """The same with all that Keras does around it; returns the history."""
    return model.fit(
        IMAGES, LABELS, 4, epochs, verbose=0, shuffle=False, callbacks=[*callbacks]
    ).history
