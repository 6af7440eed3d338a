"""A network of drawn kernels after batch norm, and the statistics it must have."""

from __future__ import annotations

import inspect

import larq_nobn as nobn
import larq as lq
import numpy as np
from larq_nobn import data, training
from larq_nobn._keras import keras
from numpy.testing import assert_allclose

SETTINGS = training.RunSettings.from_recipe(
    "bayesian",
    normalization="batch_norm",
    dataset="digits",
    augment="none",
    epochs=2,
    batch_size=16,
    limit=64,
    natural_learning_rate=100.0,
)


def dense(units: int, name: str) -> keras.layers.Layer:
    sign = {"kernel_quantizer": "ste_sign", "use_bias": False}
    return lq.layers.QuantDense(units, name=name, **sign)


def two_norms(
    input_shape: tuple[int, ...], classes: int, normalization: str, **_: object
) -> keras.Model:
    """In the place of the network of the settings."""
    x = image = keras.Input(input_shape)
    x = dense(12, "first")(keras.layers.Flatten()(x))
    x = keras.layers.BatchNormalization(name="first_norm")(x)
    x = dense(9, "second")(lq.quantizers.SteSign()(x))
    x = keras.layers.BatchNormalization(name="second_norm")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="head")(x))


# It stands in for one that takes more.
two_norms.__signature__ = inspect.signature(nobn.models.ReActNet18)


def signs(model: keras.Model, name: str) -> np.ndarray:
    latent = model.get_layer(name).kernel.latent_variable.numpy()
    return np.where(latent >= 0, 1.0, -1.0)


def assert_of_the_mode(run: training.Run) -> None:
    """Batch norms have the statistics of the most probable weights."""
    batches = data.load("digits", "train", 64, limit=64, augment=False)
    ((images, _),) = batches.as_numpy_iterator()
    x = images.reshape(64, -1).astype(np.float64)
    for name in ("first", "second"):
        norm = run.model.get_layer(f"{name}_norm")
        x = x @ signs(run.model, name)
        mean, variance = x.mean(0), x.var(0)
        assert_allclose(norm.moving_mean.numpy(), mean, rtol=1e-4, atol=1e-4)
        assert_allclose(norm.moving_variance.numpy(), variance, rtol=1e-4)
        gamma, beta = norm.gamma.numpy(), norm.beta.numpy()
        shown = (x - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta
        x = np.where(shown >= 0, 1.0, -1.0)
