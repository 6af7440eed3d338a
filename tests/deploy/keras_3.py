"""Networks of Keras 3, as somebody writes them who knows no other one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import larq_nobn  # noqa: F401  # before TensorFlow
import keras
import numpy as np
import tensorflow as tf

layers = keras.layers


def by_subtraction(x: Any) -> Any:
    return x + tf.stop_gradient(tf.where(x >= 0, 1.0, -1.0) - x)


@tf.custom_gradient
def with_gradient(x: Any) -> Any:
    one = tf.ones_like(x)
    return tf.where(x >= 0, one, -one), lambda upstream: upstream


def by_clip(x: Any) -> Any:
    inner = tf.clip_by_value(x, -1.0, 1.0)
    return tf.stop_gradient(tf.where(x >= 0, 1.0, -1.0) - inner) + inner


def plainly(x: Any) -> Any:
    return keras.ops.where(x >= 0, 1.0, -1.0)


def as_qkeras(x: Any) -> Any:
    """QKeras' `binary(alpha=1)`, and its `stochastic_binary(alpha=1)` at inference."""
    sign = keras.ops.sign(x)
    sign += 1.0 - keras.ops.abs(sign)
    return x + keras.ops.stop_gradient(-x + sign)


@keras.saving.register_keras_serializable("test")
class Binary(layers.Layer):
    """A binary convolution, by an estimator of one's own."""

    def __init__(
        self,
        filters: int,
        sign: Callable[[Any], Any] = by_subtraction,
        padding: str = "VALID",
        **more: Any,
    ):
        super().__init__(**more)
        self.filters, self.sign, self.padding = filters, sign, padding

    def build(self, shape: Any) -> None:
        size = (3, 3, shape[-1], self.filters)
        self.kernel = self.add_weight(shape=size, initializer="glorot_normal")
        self.built = True

    def call(self, x: Any) -> Any:
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), x.dtype)
        return tf.nn.conv2d(self.sign(x), self.sign(kernel), 1, self.padding)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.first, self.binary = layers.Conv2D(8, 3, name="first"), Binary(8)
        self.flat, self.last = layers.Flatten(), layers.Dense(3, name="last")

    def call(self, x: Any) -> Any:
        return self.last(self.flat(self.binary(self.first(x))))


def _ended(start: Any, x: Any, name: str) -> Any:
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(start, layers.Dense(4, name="head")(pooled), name=name)


def _in_a_row(name: str, *row: Any) -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), *row], name=name)


def convolution() -> Any:
    start = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="first")(start)
    x = layers.PReLU(shared_axes=[1, 2], name="act")(Binary(8, name="binary")(x))
    return _ended(start, x, "convolution")


def depthwise() -> Any:
    start = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(start)
    x = Binary(8, name="binary")(layers.SeparableConv2D(8, 3, name="separable")(x))
    x = layers.Conv2D(8, 3, groups=4, padding="same", name="groups")(x)
    return _ended(start, x, "depthwise")


def residual() -> Any:
    start = x = keras.Input((8, 8, 8))
    for place in range(2):
        y = Binary(8, padding="SAME", name=f"binary_{place}")(x)
        y = layers.BatchNormalization(name=f"norm_{place}")(y)
        x = layers.Add(name=f"sum_{place}")([x, y])
    return _ended(start, x, "residual")


def estimators() -> Any:
    start = x = keras.Input((12, 12, 4))
    signs = (by_subtraction, with_gradient, by_clip, plainly, as_qkeras)
    for place, sign in enumerate(signs):
        x = Binary(8, sign, name=f"binary_{place}")(x)
        x = layers.BatchNormalization(name=f"norm_{place}")(x)
    return _ended(start, x, "estimators")


def nested() -> Any:
    parts = [keras.Input((6, 6, 8)), Binary(8, name="inside"), layers.ReLU()]
    start = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="first")(start)
    return _ended(start, keras.Sequential(parts, name="block")(x), "nested")


def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3), np.float32))
    return model


def two_inputs() -> Any:
    left, right = keras.Input((8, 8, 4), name="left"), keras.Input((8, 8, 4), name="b")
    both = layers.Concatenate(name="both")([left, right])
    return _ended([right, left], Binary(8, name="binary")(both), "two_inputs")


def two_outputs() -> Any:
    start = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="first")(start)
    mean = layers.GlobalAveragePooling2D(name="mean")(Binary(8, name="binary")(x))
    largest = layers.GlobalMaxPooling2D(name="largest")(x)
    return keras.Model(start, [mean, largest], name="two_outputs")


def open_batch() -> Any:
    start = keras.Input((8, 8, 3))
    x = keras.ops.reshape(start, (-1, 64, 3))
    x = layers.Dense(8, name="projection")(x)
    x = keras.ops.reshape(x, (-1, 8, 8, 8))
    return _ended(start, Binary(8, name="binary")(keras.ops.add(x, x)), "open_batch")


def preprocessing() -> Any:
    norm = layers.Normalization(name="normalized")
    images = np.random.default_rng(0).normal(2, 3, size=(64, 8, 8, 3))
    norm.adapt(images.astype(np.float32))
    first = (norm, layers.Rescaling(0.5, name="scaled"))
    rest = (Binary(8, name="binary"), layers.Dropout(0.5), layers.Flatten())
    middle = layers.Conv2D(8, 3, name="first")
    return _in_a_row("preprocessing", *first, middle, *rest, layers.Dense(4))


def batch_norm() -> Any:
    first = layers.Conv2D(8, 3, use_bias=False, name="conv")
    norms = layers.BatchNormalization(name="conv_1"), layers.BatchNormalization()
    rest = (layers.ReLU(), layers.Flatten(), layers.Dense(4, name="head"))
    row = (first, norms[0], Binary(8, name="binary"), norms[1], *rest)
    model, random = _in_a_row("batch_norm", *row), np.random.default_rng(1)
    for norm in norms:
        norm.set_weights([random.uniform(0.5, 1.5, 8) for _ in range(4)])
    return model


@contextmanager
def policy(name: str) -> Iterator[None]:
    keras.mixed_precision.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def half() -> Any:
    with policy("mixed_bfloat16"):
        start = keras.Input((8, 8, 3))
        x = layers.Conv2D(8, 3, activation="relu", name="first")(start)
        x = Binary(8, with_gradient, name="binary")(x)
        return _ended(start, layers.BatchNormalization(name="norm")(x), "half")


# With the binary layers of each.
NETWORKS: dict[Callable[[], Any], list[str]] = {
    convolution: ["binary"],
    depthwise: ["binary"],
    residual: ["binary_0", "binary_1"],
    estimators: [f"binary_{place}" for place in range(5)],
    nested: ["inside"],
    subclassed: ["binary"],
    two_inputs: ["binary"],
    two_outputs: ["binary"],
    open_batch: ["binary"],
    preprocessing: ["binary"],
    batch_norm: ["binary"],
    half: ["binary"],
}


def examples(model: Any, count: int) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    shapes = [(8, 8, 3)]
    if hasattr(model, "inputs"):
        shapes = [x.shape[1:] for x in model.inputs]
    return [random.normal(size=(count, *x)).astype(np.float32) for x in shapes]


def called(model: Any, given: list[np.ndarray]) -> list[np.ndarray]:
    """What Keras 3 computes itself, in float32."""
    made = model(given if len(given) > 1 else given[0], training=False)
    return [np.asarray(tf.cast(x, tf.float32)) for x in tf.nest.flatten(made)]


def function_of(model: Any) -> Any:
    """The same as a `tf.function` with an input signature."""
    given = examples(model, 1)
    specs = [tf.TensorSpec((None, *x.shape[1:]), tf.float32) for x in given]
    call = partial(model, training=False)
    whole = (lambda *x: call(list(x))) if len(specs) > 1 else call
    return tf.function(whole, input_signature=specs)
