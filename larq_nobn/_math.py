"""Tensor functions shared by several methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

# With fewer elements, compilation costs more time than it saves.
_SMALLEST = 2**16
# An unknown dimension, usually the batch, counts as this size.
_UNKNOWN = 32
_unfused = ContextVar("_unfused", default=False)


@contextmanager
def unfused() -> Iterator[None]:
    """Disables `fused` in graphs that are traced in the block.

    Use it for graphs that another compiler reads, so that it knows the layer of every
    operation.
    """
    token = _unfused.set(True)
    try:
        yield
    finally:
        _unfused.reset(token)


def is_compiled(x: tf.Tensor, smallest: int = _SMALLEST) -> bool:
    """Tells whether `fused` compiles operations on `x` here."""
    elements = math.prod(size or _UNKNOWN for size in x.shape)
    return not (tf.executing_eagerly() or elements < smallest or _unfused.get())


def fused(function: Callable, smallest: int = _SMALLEST) -> Callable:
    """Compiles a function of elementwise operations into one loop, inside graphs.

    TensorFlow reads and writes memory once per operation, which is half of the time of
    a binary network's training step; XLA does so once. In eager mode, where every new
    shape would be compiled again, and for tensors of fewer than `smallest` elements,
    operations run one by one. Keep convolutions and reductions of floats outside, since
    XLA is slower at both on a CPU. The function takes tensors, the largest first, and
    keywords, which are constants; it has no side effects.
    """

    # One tf.function per signature, since TensorFlow warns of retracing if one function
    # is called with the shapes of many layers.
    @cache
    def compiled(signature: Hashable, **constants: Any) -> Callable:
        def bound(*tensors: tf.Tensor) -> Any:
            return function(*tensors, **constants)

        return tf.function(bound, jit_compile=True, autograph=False)

    @wraps(function)
    def call(*tensors: tf.Tensor, **constants: Any) -> Any:
        if not is_compiled(tensors[0], smallest):
            return function(*tensors, **constants)
        signature = tuple((t.dtype, str(t.shape)) for t in tensors)
        return compiled(signature, **constants)(*tensors)

    return call


def with_gradient(function: Callable) -> Callable:
    """Returns `tf.custom_gradient` of a function whose keywords are constants.

    TensorFlow's decorator rejects keywords in a graph, and makes every argument a
    tensor.
    """

    @wraps(function)
    def call(*tensors: tf.Tensor, **constants: Any) -> Any:
        bound = tf.custom_gradient(lambda *inputs: function(*inputs, **constants))
        return bound(*tensors)

    return call


def is_for_cpu() -> bool:
    """Tells whether operations that have only a CPU kernel can be used here.

    A graph that XLA compiles as a whole cannot contain them.
    """
    compiled = GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    return not (compiled or tf.config.list_logical_devices("GPU"))


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Casts to float32, except float64; all statistics use this."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def beside(x: tf.Tensor, weight: Any) -> tf.Tensor:
    """Casts a weight to the precision of `at_least_float32(x)`.

    Under a policy of half precision weights can be half precision too.
    """
    return tf.cast(weight, tf.float64 if x.dtype == tf.float64 else tf.float32)


@fused
def product(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Computes x·y, in float32 or better."""
    return at_least_float32(x) * at_least_float32(y)


@fused
def squared_offset(x: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Computes (x - mean)², in float32 or better."""
    return tf.square(at_least_float32(x) - mean)


@fused
def offset_product(upstream: tf.Tensor, x: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Computes upstream·(x - mean), in float32 or better."""
    return at_least_float32(upstream) * (at_least_float32(x) - mean)


def tanh_slope(x: tf.Tensor) -> tf.Tensor:
    """Computes 1 - tanh²(x) + 1e-10 with all digits, also if the tanh rounds to ±1.

    The Bayesian learning rule divides one such slope by another. With 1e-10 their ratio
    is 1 if both are 0, as for nearly all weights at small temperatures.
    """
    shrunk = tf.exp(-2 * tf.abs(x))
    return 4 * shrunk / tf.square(1 + shrunk) + 1e-10


def channel_sum(x: tf.Tensor) -> tf.Tensor:
    """Sums a feature map over every axis but the last, in float32 or better: (C,)."""
    return tf.reduce_sum(at_least_float32(x), axis=tuple(range(x.shape.rank - 1)))


def unit_sum(matrix: tf.Tensor) -> tf.Tensor:
    """Sums an (N, C) matrix over its rows: (C,).

    The operation for the gradient of a bias computes this sum; on a CPU it is twice as
    fast as `tf.reduce_sum` for tall matrices, such as kernels.
    """
    return tf.raw_ops.BiasAddGrad(out_backprop=matrix)


def is_finite(value: Any) -> bool:
    """Tells whether a tensor of any type contains neither NaN nor infinity."""
    dense = tf.convert_to_tensor(value)
    return not dense.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(dense)))
