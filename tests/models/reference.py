"""The parts of networks in NumPy float64, from a model's weights alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from larq_nobn._keras import keras


def _array(weight) -> np.ndarray:
    return weight.numpy().astype(np.float64)


def parameters(model: keras.Model) -> int:
    """How many the model trains."""
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def conv(x: np.ndarray, kernel: np.ndarray, pad: float, strides: int) -> np.ndarray:
    """A convolution, padded with `pad` below and right as TensorFlow does."""
    size = kernel.shape[0]
    out = -(-x.shape[1] // strides)
    total = max((out - 1) * strides + size - x.shape[1], 0)
    edges = (total // 2, total - total // 2)
    x = np.pad(x, ((0, 0), edges, edges, (0, 0)), constant_values=pad)
    y = np.zeros((len(x), out, out, kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + strides * (out - 1) + 1, strides)
            columns = slice(j, j + strides * (out - 1) + 1, strides)
            y += x[:, rows, columns] @ kernel[i, j]
    return y


def _standardized(model: keras.Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    layer = model.get_layer(name)
    w = _array(layer.kernel.latent_variable)
    spread = np.sqrt(w[..., 0].size) * (w.std((0, 1, 2)) + 1e-5)
    return (w - w.mean((0, 1, 2))) / spread, _array(layer.kernel_quantizer.gain)


def real_kernel(model: keras.Model, name: str) -> np.ndarray:
    """Of a convolution that stays real-valued under `"nobn"`, at scale 1."""
    hat, gain = _standardized(model, name)
    return gain * hat


def binary_kernel(model: keras.Model, name: str) -> np.ndarray:
    """Of a binary convolution under `"nobn"`, at scale 1."""
    hat, gain = _standardized(model, name)
    quantizer = model.get_layer(name).kernel_quantizer
    if quantizer.balanced:
        hat = hat - np.median(hat, (0, 1, 2))
    if quantizer.variance_preserving:
        return gain * hat[..., 0].size ** -0.5 * sign(hat)
    return gain * np.abs(hat).mean((0, 1, 2)) * sign(hat)


# What the code of BNN - BN trains; the defaults are those of the recipe.
PUBLISHED = {
    "alpha": 0.2,
    "variance_rule": "vita",
    "variance_preserving": False,
    "balanced": False,
}


def sign(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1.0, -1.0)


def average(x: np.ndarray) -> np.ndarray:
    """Over 2x2, of maps of an even size."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def max_pool(x: np.ndarray, size: int, same: bool = False) -> np.ndarray:
    """With stride 2; the same padding keeps an incomplete edge."""
    side = x.shape[1]
    out = -(-side // 2) if same else (side - size) // 2 + 1
    total = max((out - 1) * 2 + size - side, 0)
    edges = (total // 2, total - total // 2)
    x = np.pad(x, ((0, 0), edges, edges, (0, 0)), constant_values=-np.inf)
    end = 2 * out - 1
    windows = [
        x[:, i : i + end : 2, j : j + end : 2] for i in range(size) for j in range(size)
    ]
    return np.max(windows, axis=0)


def bias(model: keras.Model, name: str) -> np.ndarray:
    return _array(model.get_layer(name).bias)


def hard_tanh(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -1, 1)


def prelu(model: keras.Model, name: str, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, _array(model.get_layer(name).alpha) * x)


def rprelu(model: keras.Model, name: str, x: np.ndarray) -> np.ndarray:
    act = model.get_layer(name)
    z = x + _array(act.shift_in)
    if act.power_of_two:
        slope = 2 ** np.round(_array(act.log2_slope))
    else:
        slope = _array(act.slope)
    return np.where(z > 0, z, slope * z) + _array(act.shift_out)


def classified(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """The head's logits of the last map."""
    head = model.get_layer("head")
    return x.mean((1, 2)) @ _array(head.kernel) + _array(head.bias)


def assert_computes(
    model: keras.Model, formula: Callable[[keras.Model, np.ndarray], np.ndarray]
) -> None:
    """Compares logits of 16 images with a formula's, all vectors off their start."""
    rng = np.random.default_rng(4)
    for weight in model.trainable_weights:
        if max(weight.shape) == np.prod(weight.shape):
            weight.assign_add(rng.normal(0, 0.1, weight.shape))
    images = rng.normal(size=(16, *model.input_shape[1:])).astype(np.float32)
    expected = formula(model, images.astype(np.float64))
    agrees = np.abs(model(images) - expected).max(-1) < 1e-4
    # Float32 may round one of some 10,000 sign inputs to the other side of zero.
    assert agrees.mean() >= 0.9
