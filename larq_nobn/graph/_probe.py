"""Finds out whether users' functions are signs or clips, by calling them on numbers.

A function, a Lambda or a class that this package does not know may be written in any
way. So it is tried on numbers of all sizes: 0 and -0, each power of ten from 1e-30 to
1e30 and some between, and infinity, on both sides of 0, each among others. Left out are
NaN, which has no sign, and numbers below 1e-30, which processors may flush to 0.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ._errors import ModelError, raised_by
from ._graph import Call
from ._operation import KNOWN_PACKAGES
from ._traits import FUNCTIONS, activation_traits

_FEW = np.array([-100.0, -2.5, -0.5, 0.5, 2.5, 100.0], np.float32)
# The most values that a quantizer of few bits gives for the numbers below.
_MOST = 3
_SIZES = np.geomspace(1e-30, 1e30, 241, dtype=np.float32)
_POSITIVE = np.array([0.0, -0.0, *_SIZES, np.inf], np.float32)
_NEGATIVE = -np.array([*_SIZES, np.inf], np.float32)
# (batch, ..., channels) of one channel; weights per channel broadcast it to several.
_SHAPES = tuple((-1, *[1] * rank) for rank in (3, 1, 2, 4))


def is_users(quantizer: Any) -> bool:
    """Whether this is a function, a Lambda or a class that this package lacks."""
    if quantizer is None or not callable(quantizer):
        return False
    if isinstance(quantizer, Hashable) and quantizer in FUNCTIONS:
        return False
    if type(quantizer) is keras.layers.Lambda:
        return True
    home = quantizer if not isinstance(quantizer, keras.layers.Layer) else None
    module = getattr(home, "__module__", None) or type(quantizer).__module__
    return module.split(".")[0] not in KNOWN_PACKAGES


def bits_of_users(quantizer: Any) -> int:
    """Returns the bits of a user's quantizer, tried on numbers.

    A sign has 1 bit; it may be -1 at 0, or give 0 and 1 instead of -1 and +1. Anything
    else that gives few numbers, or cannot be called on numbers alone, has 2 bits. The
    rest has 32.
    """
    for shape in _SHAPES:
        few = _tried(quantizer, _FEW.reshape(shape))
        if few is not None and few.shape[:1] == _FEW.shape:
            break
    else:
        return 2
    values = set(np.unique(few))
    same_places = few.shape[:-1] == _FEW.reshape(shape).shape[:-1]
    if len(values) > _MOST or not same_places:
        return 32
    low, zero = (0, 0) if values == {0.0, 1.0} else (-1, 1)
    if np.all(_tried(quantizer, np.zeros_like(_FEW).reshape(shape)) == -1):
        zero = -1
    channels = few.shape[-1] if few.shape[-1] > 1 else 5
    # Each number is among others on the same side of 0, so that no mean is 0.
    for side in (_POSITIVE, _NEGATIVE):
        numbers = np.resize(side, (len(side), *[2] * (len(shape) - 2), channels))
        made = _tried(quantizer, numbers)
        expected = np.where(numbers > 0, 1, np.where(numbers == 0, zero, low))
        if made is None or not np.array_equal(made, expected):
            return 2
    return 1


def bounds_of(call: Call) -> tuple[float, float] | None:
    """Returns the bounds of a call that only clips; None for other calls.

    A user's function is tried on numbers.
    """
    layer = call.layer
    if type(layer) not in (keras.layers.Activation, keras.layers.ReLU):
        return None
    function = getattr(layer, "activation", None)
    if not is_users(function):
        return activation_traits(layer).bounds
    numbers = np.concatenate([_POSITIVE, _NEGATIVE])
    mixed = np.random.default_rng(0).permutation(numbers)
    made = _tried(function, numbers.reshape(-1, 1, 1, 1))
    among = _tried(function, mixed.reshape(1, 2, 1, -1))
    if made is None or among is None:
        return None
    bounds = float(made.min()), float(made.max())
    pairs = (numbers, made), (mixed, among)
    clips = all(np.array_equal(np.clip(x, *bounds), np.ravel(y)) for x, y in pairs)
    return bounds if clips and np.isfinite(bounds).any() else None


def _tried(quantizer: Any, numbers: np.ndarray) -> np.ndarray | None:
    """Returns what a quantizer gives for numbers; None if it raises."""
    call = quantizer
    if isinstance(quantizer, lq.quantizers.Quantizer):
        call = quantizer.call  # without its metrics
    try:
        with raised_by(quantizer, "cannot be called on numbers"):
            made = call(tf.constant(numbers))
    except ModelError:
        return None
    return np.asarray(tf.cast(made, tf.float32)) if tf.is_tensor(made) else None
