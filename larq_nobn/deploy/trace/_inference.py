"""Patches Keras, Larq and TensorFlow so that models are traced as files need it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, NamedTuple
from unittest.mock import patch

import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import polymorphic_function
from tensorflow.python.framework import ops, smart_cond
from tensorflow.python.ops import cond as conditions
from tensorflow.python.ops import custom_gradient, gen_math_ops, gen_nn_ops
from tensorflow.python.platform import device_context

from ..._keras import keras
from ..._larq import lq, unmeasured
from ...graph import _signs
from ...layers._group_statistics import group_moments
from ..lite._converter import Function

_CONVOLUTION: Any = keras.layers.Conv2D.__mro__[1]
_QUANTIZED: Any = lq.quantized_variable.QuantizedVariable


def as_built(function: Function) -> Any:
    """Returns a `tf.function` that treats control flow as the build of a model does."""
    building = tf.__internal__.autograph.control_status_ctx()

    def called(*inputs: tf.Tensor) -> Sequence[Any]:
        with building:
            return function(inputs)

    return tf.function(called, autograph=False)


class LayerCall(NamedTuple):
    """A call of a layer, with its input and output tensors.

    For a layer of Keras 3, `operations` names the operations made during the call.
    Keras 3 numbers operations through all calls, so their names do not tell the layer.
    """

    layer: Any
    inputs: list[Any]
    outputs: list[Any]
    operations: list[str]


@contextmanager
def noting_calls(calls: list[LayerCall]) -> Iterator[None]:
    """Appends all calls of layers and models to a list, inner calls first."""

    def tensors(nested: Any) -> list[Any]:
        return [x for x in tf.nest.flatten(nested) if tf.is_symbolic_tensor(x)]

    def noting(own: Any, self: Any, *args: Any, **more: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        named = not isinstance(self, keras.layers.Layer)
        before = len(graph.get_operations()) if named else 0
        made = own(self, *args, **more)
        names = [op.name for op in graph.get_operations()[before:]] if named else []
        calls.append(LayerCall(self, tensors((args, more)), tensors(made), names))
        return made

    with ExitStack() as stack:
        for layer in _both("Layer"):
            stack.enter_context(_instead(layer, "__call__", noting))
        yield


def _instead(owner: Any, name: str, replacement: Callable[..., Any]) -> Any:
    """Patches a function or method; the replacement gets the original one first."""
    own = getattr(owner, name)

    @wraps(own)
    def called(*args: Any, **more: Any) -> Any:
        return replacement(own, *args, **more)

    return patch.object(owner, name, called)


def _both(name: str) -> list[Any]:
    """Returns a layer class of legacy Keras, and that of Keras 3 if it is imported."""
    kerases: tuple[Any, Any] = keras, sys.modules.get("keras")
    return [getattr(x.layers, name) for x in kerases if hasattr(x, "layers")]


@contextmanager
def at_inference() -> Iterator[None]:
    """Traces models in a form that files can have, and without memory leaks.

    Group normalizations only reshape statistics. Convolutions in groups become
    operations of the graph, which Keras would compile, and dilated ones keep their
    map whole, as LCE needs it. Counts of numbers, maxima over channels, the k largest
    numbers and products of integers are written as TensorFlow Lite has them. Known
    quantizers quantize each kernel once, not in each run. A condition that depends on
    no input traces only its branch: the other one may be for training. Gradients are
    not traced, since TensorFlow keeps the graph of each gradient forever.

    Verification compares the traced graph with the unpatched model.
    """
    tensors = partial(tf.nest.map_structure, tf.convert_to_tensor)
    forward = lambda f, args, _: f(*tensors(args))[0]  # noqa: E731
    plain = lambda layer, *args: layer.convolution_op(*args)  # noqa: E731
    with (
        patch.object(device_context, "enclosing_tpu_context", object),
        patch.object(custom_gradient, "_graph_mode_decorator", forward),
        patch.object(_CONVOLUTION, "_jit_compiled_convolution_op", plain),
        _instead(gen_math_ops, "batch_mat_mul_v3", _product),
        _instead(gen_math_ops, "dense_bincount", _counted),
        _instead(gen_nn_ops, "top_kv2", _top_k),
        _instead(gen_nn_ops, "max_pool", _max_pool),
        _instead(conditions, "cond", _decided),
        _instead(_QUANTIZED, "_dense_var_to_tensor", _once),
        _instead(polymorphic_function.Function, "__init__", _interpreted),
        ExitStack() as stack,
    ):
        for norm in _both("GroupNormalization"):
            call = partial(_of_statistics, norm)
            stack.enter_context(_instead(norm, "call", call))
        yield


@contextmanager
def forgotten_gradients() -> Iterator[None]:
    """Removes the gradients that graphs traced inside have registered, unused."""
    registry = ops.gradient_registry._registry
    known = set(registry)
    try:
        yield
    finally:
        for name in registry.keys() - known:
            del registry[name]


def _interpreted(own: Any, *args: Any, **more: Any) -> None:
    """Creates a `tf.function` that is not compiled, unlike Keras 3's convolutions."""
    own(*args, **{**more, "jit_compile": None})


def _of_statistics(
    norm: Any, own: Any, self: Any, inputs: Any, *rest: Any, **more: Any
) -> Any:
    """Computes a group normalization as files do it correctly."""
    plain = type(self) is norm and more.get("mask") is None
    last = self.axis in (-1, inputs.shape.rank - 1)
    if not plain or not last or inputs.dtype != tf.float32:
        return own(self, inputs, *rest, **more)
    mean, variance = group_moments(inputs, self.groups)
    rate = tf.math.rsqrt(variance + self.epsilon)
    outputs = (inputs - mean) * (rate if self.gamma is None else rate * self.gamma)
    return outputs if self.beta is None else outputs + self.beta


def _product(own: Any, x: Any, y: Any, Tout: Any, *rest: Any, **more: Any) -> Any:
    """Computes a product of int8, as Keras 3 has it after `quantize("int8")`.

    TensorFlow Lite has it for float32, which has room for sums of a thousand products.
    """
    if not (x.dtype.is_integer and y.dtype.is_integer):
        return own(x, y, Tout, *rest, **more)
    floats = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    return tf.cast(own(*floats, tf.float32, *rest, **more), Tout)


def _counted(own: Any, input: Any, size: Any, weights: Any, **more: Any) -> Any:
    """Counts how often each number appears, if the number of bins is fixed."""
    # As `tf.math.bincount` writes it, with an equal `minlength` and `maxlength`.
    bounds = [size.op.inputs[0], *size.op.inputs[1].op.inputs[:1]][: 2 * bool(size.op)]
    most, least = map(tf.get_static_value, bounds)
    if size.op.type != "Minimum" or most is None or most != least:
        return own(input=input, size=size, weights=weights, **more)
    found = tf.one_hot(input, int(most), dtype=weights.dtype)
    if more.get("binary_output"):
        return tf.reduce_max(found, -2)
    if weights.shape != [0]:
        found *= weights[..., tf.newaxis]
    return tf.reduce_sum(found, -2)


def _top_k(own: Any, input: Any, k: Any, *rest: Any, **more: Any) -> Any:
    """Finds the k largest numbers, with k as int32, as TensorFlow Lite requires it."""
    return own(input, tf.cast(k, tf.int32), *rest, **more)


def _max_pool(own: Any, input: Any, ksize: Any, *rest: Any, **more: Any) -> Any:
    """Writes max pools over channels as a reshape and a maximum."""
    *positions, count = ksize
    if count == 1 or set(positions) != {1} or input.shape[-1] is None:
        return own(input, ksize, *rest, **more)
    sizes = tf.shape(input)[:-1]
    shape = tf.concat([sizes, [input.shape[-1] // count, count]], 0)
    return tf.reduce_max(tf.reshape(input, shape), -1)


def _decided(
    own: Any, pred: Any, true_fn: Any = None, false_fn: Any = None, **more: Any
) -> Any:
    """Traces one branch of a `tf.cond` only, if its condition is known."""
    known = None
    if more.get("strict") and tf.is_symbolic_tensor(pred):
        known = smart_cond.smart_constant_value(pred)
    if known is None:
        return own(pred, true_fn, false_fn, **more)
    made = true_fn() if known else false_fn()
    return tf.nest.map_structure(tf.convert_to_tensor, made)


def _once(own: Any, self: Any, *args: Any, **more: Any) -> Any:
    """Quantizes a kernel once, while a model is traced."""
    # A user's quantizer is traced, so that all that it does is checked.
    if tf.executing_eagerly() or _signs.is_users(self.quantizer):
        return own(self, *args, **more)
    with tf.init_scope(), unmeasured(self.quantizer):
        kernel = own(self, *args, **more)
    return tf.compat.v1.get_default_graph().capture(kernel, name="kernel")
