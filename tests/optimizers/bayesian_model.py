"""The rule in NumPy, and a network with one kernel that follows it."""

import larq as lq
import numpy as np
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.training._callbacks import Reseeding

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 8)


def step(natural, gradient, rate, weight, prior=0.5):
    """One step, from the gradient in the natural parameters."""
    odds = 0.5 * np.log(prior / (1 - prior))
    natural_gradient = gradient / (1 / np.cosh(natural) ** 2 + 1e-10)
    return (1 - rate * weight) * natural - rate * (natural_gradient - weight * odds)


def build(optimizer, policy="float32", **arguments):
    """Dense, binary dense and head, compiled; the same weights at every call."""
    keras.utils.set_random_seed(1)
    with dtype_policy(policy):
        binary = lq.layers.QuantDense(
            5,
            kernel_quantizer="bernoulli_sign",
            kernel_constraint=lq.constraints.WeightClip(5.0),
            name="binary",
        )
        head = keras.layers.Dense(3, dtype="float32", name="head")
        first = keras.layers.Dense(4, "tanh", name="first")
        model = keras.Sequential([keras.Input((6,)), first, binary, head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **arguments)
    if not model.run_eagerly:
        model.optimizer.build(model.trainable_variables)  # or it is traced once more
    return model


def eager(optimizer, policy="float32"):
    """The same without a graph, which takes longer to trace than a few steps take."""
    return build(optimizer, policy, run_eagerly=True)


def train(model, epochs=1):
    """Two steps per epoch, always on the same batches and with the same draws."""
    model.fit(
        IMAGES,
        LABELS,
        4,
        epochs,
        verbose=0,
        shuffle=False,
        callbacks=[Reseeding(3)],
    )


def natural_of(model):
    return model.get_layer("binary").kernel.latent_variable.numpy()


def kernel(values):
    """A variable that is the kernel of a `BernoulliSign`."""
    values = np.asarray(values, np.float32)
    layer = lq.layers.QuantDense(
        values.shape[1],
        kernel_quantizer="bernoulli_sign",
        kernel_constraint=lq.constraints.WeightClip(1e9),
        use_bias=False,
        name="binary",
    )
    layer.build((None, values.shape[0]))
    layer.kernel.latent_variable.assign(values)
    return layer.kernel
