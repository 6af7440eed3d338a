"""What a network computes and holds, found without the package that is tried.

Keras computes the outputs, one operation after the other. An example counts only if
small changes of all weights, much larger than roundings, do not move its outputs: no
sign, step or spike of it is decided by rounding. Which layers are binary is seen from
the numbers that meet their kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras

from . import users
from .networks import examples, latent, packed

COUNT = 13  # examples; no map has a side of that
_SHIFT = 1e-5
_SHIFTS = 16  # each turns what is near a threshold with a probability of one half
_STEADY = 1e-4
_ROUNDING = 1e-6  # of the largest number of a map

_RESHAPED = (lq.layers.QuantConv1D, lq.layers.QuantDense)
_SETTINGS = ("strides", "padding", "pad_values", "dilation_rate", "groups")
_KNOWN = (lq.layers.QuantConv2D, *_RESHAPED)


class Expected(NamedTuple):
    """What is expected of a file.

    Attributes:
        inputs: One array per input.
        outputs: One matrix per output, a row per example.
        sure: The examples that no rounding can change.
        binary: How many binary convolutions it should hold, groups counted one by one.
        plain: How many of them are such in LCE without a rewrite.
        finite: Whether all outputs are numbers.
        steady: Tells which examples have no sign of a sum of real numbers that is 0 but
            for rounding, which changes of the weights need not move.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    sure: np.ndarray
    binary: int
    plain: int
    finite: bool
    steady: Callable[[], np.ndarray]


def expected(model: keras.Model, seed: int) -> Expected:
    """Computes a network, and looks into its binary layers meanwhile."""
    inputs = examples(model, COUNT, seed)
    latent()  # a layer that could not be drawn leaves Larq's scope open
    with _binary_layers(model) as actual:
        outputs = evaluate(model, inputs)
    sure = np.ones(COUNT, bool)
    values, random = [w.numpy() for w in model.weights], np.random.default_rng(seed)
    try:
        for _ in range(_SHIFTS):
            for weight, value in zip(model.weights, values, strict=True):
                if weight.dtype.is_floating:
                    weight.assign(_moved(value, random))
            moved = [_moved(x, random) if x.dtype.kind == "f" else x for x in inputs]
            for was, now in zip(outputs, evaluate(model, moved), strict=True):
                sure &= distance(was, now) <= _STEADY
    finally:
        for weight, value in zip(model.weights, values, strict=True):
            weight.assign(value)
    return Expected(
        inputs,
        outputs,
        sure,
        sum(count for count, _ in actual.values()),
        sum(count for count, plain in actual.values() if plain),
        all(np.isfinite(y).all() for y in outputs),
        lambda: _steady(model, inputs, outputs),
    )


def _steady(
    model: keras.Model, inputs: list[np.ndarray], outputs: list[np.ndarray]
) -> np.ndarray:
    given, random, steady = lq.math.sign, np.random.default_rng(0), np.ones(COUNT, bool)

    def sign(x: Any) -> Any:
        x = tf.convert_to_tensor(x)
        whole = np.all(x == tf.round(x))  # both worlds have these exactly
        size = 0.0 if whole else _ROUNDING * tf.reduce_max(tf.abs(x))
        return given(x + tf.cast(size * random.uniform(-1, 1, x.shape), x.dtype))

    lq.math.sign = sign
    try:
        for _ in range(_SHIFTS):
            for was, now in zip(outputs, evaluate(model, inputs), strict=True):
                steady &= distance(was, now) <= _STEADY
    finally:
        lq.math.sign = given
    return steady


def _moved(value: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return value * (1 + _SHIFT * random.uniform(-1, 1, value.shape)).astype(value.dtype)


def evaluate(model: keras.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs in float32, in the order of Keras."""
    parts = [tf.constant(x) for x in inputs]
    actual = tf.nest.flatten(model(packed(model, parts), training=False))
    return [matrix(np.asarray(y), len(inputs[0])) for y in actual]


def matrix(values: np.ndarray, count: int) -> np.ndarray:
    """One row per example."""
    return np.reshape(values, (count, -1)).astype(np.float32)


def distance(wanted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """The largest difference of every example, relative to the size of the output."""
    scale = np.abs(wanted).max(axis=1)
    scale = np.maximum(scale, max(float(np.mean(scale)), 1e-6))
    off = np.abs(wanted.astype(np.float64) - actual).max(axis=1) / scale
    return np.where(np.isnan(off), np.inf, off)


@contextmanager
def _binary_layers(model: keras.Model) -> Iterator[dict[Any, tuple[int, bool]]]:
    """Notes each call of a layer whose input and kernel have two values each.

    Calls that compute the same may be one convolution in the file, and count once.
    """
    actual: dict[Any, tuple[int, bool]] = {}
    watched = [part for part in model.submodules if type(part) in _KNOWN]
    # A sum of one product is a sign, too, but not one that anybody asked for.
    by_chance = any(_products(layer) == 1 for layer in watched)
    for layer in watched:
        if layer.input_quantizer is not None or not by_chance:
            layer.call = _noting(layer, layer.call, actual)
    try:
        yield actual
    finally:
        for layer in watched:
            vars(layer).pop("call", None)


def _products(layer: Any) -> int:
    """How many products each sum of a layer has, but for those with padding."""
    *window, channels, _ = layer.kernel.shape
    count = np.prod(window, dtype=int)
    for i in range(len(layer.inbound_nodes)):  # none if another one calls it
        positions = layer.get_input_shape_at(i)[1:-1]
        count = min(count, np.prod(positions, dtype=int))
    return channels * count


def _noting(layer: Any, call: Any, actual: dict[Any, tuple[int, bool]]) -> Any:
    def noting(inputs: Any) -> Any:
        outputs = call(inputs)
        if isinstance(outputs, tf.__internal__.EagerTensor):
            actual.update(_seen(layer, inputs))
        return outputs

    return noting


def _bits(quantizer: Any) -> int:
    """What a quantizer declares; 1 of a user's that declares nothing, and is one at 0.

    What it gives of other numbers, its values tell.
    """
    declared = getattr(quantizer, "precision", None)
    if declared is not None or quantizer is None:
        return declared or 32
    at_zero = np.unique(quantizer(tf.zeros((1, 1, 1, 4)))).tolist()
    known = at_zero in ([1.0], [0.0], [-1.0]) and quantizer is not users.almost
    return 1 if known else 32


def _seen(layer: Any, inputs: Any) -> dict[Any, tuple[int, bool]]:
    quantizer = layer.input_quantizer
    if _bits(layer.kernel_quantizer) != 1 or (quantizer and _bits(quantizer) != 1):
        return {}
    steady = np.asarray(inputs if quantizer is None else quantizer(inputs))
    steady = np.round(steady, 5)  # x + (q - x) is q but for rounding
    values = np.unique(steady)
    if getattr(quantizer, "precision", None) is None and len(values) < 2:
        return {}  # a constant map is no sign
    with lq.context.quantized_scope(True):
        kernel = np.asarray(tf.convert_to_tensor(layer.kernel), np.float64)
        kernel = np.where(np.abs(kernel) < 1e-6, 0.0, kernel)
    size = np.abs(kernel).reshape(-1, kernel.shape[-1])
    even = np.allclose(size, size[:1], rtol=1e-5) and bool(size.all())
    steps = {0.0, 1.0}
    zero_one = set(np.unique(np.round(kernel, 6))) <= steps
    heaviside = isinstance(quantizer, lq.quantizers.SteHeaviside)
    signs = set(values) <= {-1.0, 1.0} and not heaviside
    if not (signs or set(values) <= steps) or not (even or zero_one):
        return {}
    groups = getattr(layer, "groups", 1)
    pads = float(getattr(layer, "pad_values", 0.0)) in (0.0, 1.0)
    plain = type(layer) is lq.layers.QuantConv2D and groups == 1 and pads
    plain &= np.ndim(inputs) == 4  # not several maps at a time
    settings = [getattr(layer, name, None) for name in _SETTINGS]
    key = (type(layer), steady.shape, steady.tobytes(), np.sign(kernel).tobytes())
    return {(*key, str(settings)): (groups, plain and signs and even)}
