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

# Below this many elements a compilation costs more than it ever saves. A dimension that
# is not known, the batch as a rule, counts as a usual batch.
_SMALLEST = 2**16
_UNKNOWN = 32
_apart = ContextVar("_apart", default=False)


@contextmanager
def unfused() -> Iterator[None]:
    """Leaves the operations of `fused` functions apart in graphs traced inside.

    For a graph that another compiler reads: it sees the layer of every operation.
    """
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def is_compiled(x: tf.Tensor, smallest: int = _SMALLEST) -> bool:
    """Whether a loop over `x` is compiled here, for which it must not be too small."""
    elements = math.prod(size or _UNKNOWN for size in x.shape)
    return not (tf.executing_eagerly() or elements < smallest or _apart.get())


def fused(function: Callable, smallest: int = _SMALLEST) -> Callable:
    """Runs a chain of elementwise operations as one loop over its tensors.

    TensorFlow passes over memory once per operation. Inside a graph XLA compiles the
    chain instead, which is what half of a binary network's step is made of. Eagerly,
    where every new shape would be compiled again, and for small tensors the operations
    run as they are. Keep convolutions and reductions of floats outside: XLA is slower
    at both on a CPU. The function takes tensors, the largest first, and keywords, which
    are constants to it; it has no side effects. Compiling pays where that tensor has
    `smallest` elements or more.
    """

    # One tf.function per signature: TensorFlow takes a single one that meets many
    # layers' shapes for a mistake and warns of retracing.
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
    """`tf.custom_gradient` for a function with keywords, which are constants to it.

    TensorFlow's own takes none in a graph, and makes a tensor of every argument.
    """

    @wraps(function)
    def call(*tensors: tf.Tensor, **constants: Any) -> Any:
        bound = tf.custom_gradient(lambda *given: function(*given, **constants))
        return bound(*tensors)

    return call


def is_for_cpu() -> bool:
    """Whether an operation that only CPUs have a kernel of can be used here.

    XLA compiles none of them, in a graph that it is given as a whole.
    """
    compiled = GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    return not (compiled or tf.config.list_logical_devices("GPU"))


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Casts half precision to float32, in which all statistics are taken."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def beside(x: tf.Tensor, weight: Any) -> tf.Tensor:
    """A weight in the precision in which the statistics of `x` are taken.

    Under a policy of half precision the weights are halves too.
    """
    return tf.cast(weight, tf.float64 if x.dtype == tf.float64 else tf.float32)


@fused
def product(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x·y, in float32 or better."""
    return at_least_float32(x) * at_least_float32(y)


@fused
def squared_offset(x: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """(x - mean)², in float32 or better."""
    return tf.square(at_least_float32(x) - mean)


@fused
def offset_product(upstream: tf.Tensor, x: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """upstream·(x - mean), in float32 or better."""
    return at_least_float32(upstream) * (at_least_float32(x) - mean)


def tanh_slope(x: tf.Tensor) -> tf.Tensor:
    """1 - tanh²(x) + 1e-10, with all digits also where the tanh has rounded to ±1.

    The guard is that of the Bayesian learning rule, which divides one such slope by
    another: where both are 0, as for nearly all weights at small temperatures, their
    ratio is to be 1.
    """
    shrunk = tf.exp(-2 * tf.abs(x))
    return 4 * shrunk / tf.square(1 + shrunk) + 1e-10


def channel_sum(x: tf.Tensor) -> tf.Tensor:
    """Sums a feature map over every axis but the last, in float32 or better: (C,)."""
    return tf.reduce_sum(at_least_float32(x), axis=tuple(range(x.shape.rank - 1)))


def unit_sum(matrix: tf.Tensor) -> tf.Tensor:
    """Sums an (N, C) matrix over its rows: (C,).

    The bias gradient kernel is this very sum, and on a CPU twice as fast as
    `tf.reduce_sum` for the tall matrices that kernels are.
    """
    return tf.raw_ops.BiasAddGrad(out_backprop=matrix)


def is_finite(value: Any) -> bool:
    """Whether no number of a tensor, of any type, is NaN or infinite."""
    dense = tf.convert_to_tensor(value)
    return not dense.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(dense)))
