"""Tiny networks to train with callbacks, and what TensorBoard would read of it."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(16, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 16)


def binary(units=5, quantizer=nobn.quantizers.ReCU, **kwargs):
    return lq.layers.QuantDense(units, kernel_quantizer=quantizer(), **kwargs)


def head():
    return keras.layers.Dense(3, dtype="float32", name="head")


def sequential(layer=binary):
    return keras.Sequential([keras.Input((6,)), layer(name="binary"), head()])


def functional(layer=binary):
    x = keras.Input((6,))
    y = layer(name="first")(x)
    y = keras.layers.add([y, layer(name="second")(y)])
    return keras.Model(x, head()(y))


def nested(layer=binary):
    """Models in a model, whose layers have the same names."""
    x = y = keras.Input((6,))
    for name in ("one", "two"):
        inner = keras.Input(y.shape[1:])
        y = keras.Model(inner, layer(name="binary")(inner), name=name)(y)
    return keras.Model(x, head()(y))


def wrapped(layer=binary):
    x = keras.Input((6,))
    y = keras.layers.Reshape((2, 3))(x)
    y = keras.layers.TimeDistributed(layer(), name="each")(y)
    return keras.Model(x, head()(keras.layers.Flatten()(y)))


class Subclassed(keras.Model):
    def __init__(self, layer=binary):
        super().__init__(name="subclassed")
        self.parts = {"hidden": [layer(name="binary")]}
        self.last = head()

    def call(self, inputs):
        return self.last(self.parts["hidden"][0](inputs))


def subclassed(layer=binary):
    model = Subclassed(layer)
    model(IMAGES)
    return model


def compiled(network=sequential, optimizer=None, layer=binary, **arguments):
    """The same weights at every call; eager unless told otherwise, which is cheaper."""
    keras.utils.set_random_seed(1)
    model = network(layer)
    if optimizer is None:
        optimizer = nobn.optimizers.AdaptiveGradientClipping(
            keras.optimizers.SGD(0.5), 0.05
        )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **(arguments or {"run_eagerly": True}))
    if not model.run_eagerly:  # or it is traced once more
        model.optimizer.build(model.trainable_variables)
    return model


def fit(model, *callbacks, epochs=2, **arguments):
    """Four steps per epoch, always on the same batches; returns Keras' history."""
    return model.fit(
        IMAGES,
        LABELS,
        batch_size=4,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
        **arguments,
    ).history


def scalars(folder):
    """`{tag: {step: value}}` of TensorBoard's scalars in a folder."""
    actual, read = {}, tf.compat.v1.train.summary_iterator
    # Two files of one second have names in no order.
    events = [event for path in folder.glob("events.*") for event in read(str(path))]
    for event in sorted(events, key=lambda event: event.wall_time):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            number = float(tf.make_ndarray(value.tensor))
            actual.setdefault(value.tag, {})[event.step] = number
    return actual
