"""A small network, loose variables, and the rules of two wrappers in NumPy."""

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.training._callbacks import Reseeding

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 5, 5, 3)).astype("float32")
LABELS = RNG.integers(0, 3, 8)
SHAPES = {"conv/kernel": (3, 3, 2, 4), "conv/gain": (4,), "head/kernel": (4, 3)}
START = np.array([[0.5, -1.0, 0.0], [2.0, -0.1, 0.3]])


def clip(gradient, weight, axes, clip_factor, epsilon=1e-3, lower=0.0):
    """Adaptive gradient clipping as a loop over units, in float64."""
    gradient = np.asarray(gradient, np.float64)
    weight = np.asarray(weight, np.float64)
    kept = [axis for axis in range(gradient.ndim) if axis not in axes]
    result = gradient.copy()
    for unit in np.ndindex(*[gradient.shape[axis] for axis in kept]):
        index = [slice(None)] * gradient.ndim
        for axis, position in zip(kept, unit, strict=True):
            index[axis] = position
        index = tuple(index)
        norm = np.sqrt(np.sum(gradient[index] ** 2))
        size = max(np.sqrt(np.sum(weight[index] ** 2)), epsilon)
        wanted = min(max(norm, lower * size), clip_factor * size)
        if wanted != norm:
            result[index] = gradient[index] * wanted / max(norm, 1e-6)
    return result


def bayesian_step(natural, gradient, rate, weight, prior=0.5):
    """A step of the Bayesian rule, from the gradient in the natural parameters."""
    odds = 0.5 * np.log(prior / (1 - prior))
    natural_gradient = gradient / (1 / np.cosh(natural) ** 2 + 1e-10)
    return (1 - rate * weight) * natural - rate * (natural_gradient - weight * odds)


def variables(**arguments):
    rng = np.random.default_rng(1)
    return [
        tf.Variable(rng.normal(size=shape).astype("float32"), name=name, **arguments)
        for name, shape in SHAPES.items()
    ]


def gradients(seed=2):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in SHAPES.values()]


def random_kernel(values=START, limit=1e9):
    """A variable that is the kernel of a `BernoulliSign`."""
    values = np.asarray(values, np.float32)
    layer = lq.layers.QuantDense(
        values.shape[1],
        kernel_quantizer="bernoulli_sign",
        kernel_constraint=lq.constraints.WeightClip(limit),
        use_bias=False,
        name="binary",
    )
    layer.build((None, values.shape[0]))
    layer.kernel.latent_variable.assign(values)
    return layer.kernel


def apply(optimizer, raw, weights):
    pairs = zip(raw, weights, strict=True)
    optimizer.apply_gradients([(tf.convert_to_tensor(g), w) for g, w in pairs])


def numpy(weights):
    return [np.asarray(getattr(w, "latent_variable", w)) for w in weights]


def assert_close(first, second, **tolerance):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def build(optimizer, kernel_quantizer="ste_sign", policy="float32", **arguments):
    """Conv, binary conv, PReLU and head, compiled; the same weights at every call."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    with dtype_policy(policy):
        binary = lq.layers.QuantConv2D(
            4,
            3,
            kernel_quantizer=kernel_quantizer,
            kernel_constraint=lq.constraints.WeightClip(5.0),
            name="binary",
        )
        model = keras.Sequential(
            [
                keras.Input(IMAGES.shape[1:]),
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
    """Two steps per epoch, always on the same batches and with the same draws."""
    draws = Reseeding(3)
    draws.set_model(model)
    for epoch in range(epochs):
        draws.on_epoch_begin(epoch)
        for batch in (slice(4), slice(4, 8)):
            model.train_on_batch(IMAGES[batch], LABELS[batch])
