"""The thresholds of balanced filters cut where the median does, to the last weight."""

import logging

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._math import unfused
from larq_nobn.quantizers import ScaledStdSign
from larq_nobn.quantizers._balance import halving_thresholds
from larq_nobn.quantizers._filters import Filters
from numpy.testing import assert_array_equal

SHAPE = (6600, 10)  # large enough to be searched
SELECTED = (360, 10)
# As inside the graph of a training step; and of one that is compiled as a whole.
INSIDE = tf.function(halving_thresholds, autograph=False)
COMPILED = tf.function(halving_thresholds, autograph=False, jit_compile=True)
every_way = pytest.mark.parametrize(
    "shape, way",
    [(SHAPE, INSIDE), (SHAPE, COMPILED), (SELECTED, INSIDE)],
    ids=["searched", "compiled", "selected"],
)


def clustered(rng, shape):
    """Two clusters with nothing between: most thresholds tried leave all as it is."""
    return rng.normal(size=shape) * 0.01 + rng.choice([-1, 1], shape)


def with_outliers(rng, shape):
    values = rng.normal(size=shape)
    values[0] = 1e4
    return values


def with_ties(rng, shape):
    return rng.integers(-2, 3, shape) * 0.5


def as_glorot_trained(rng, shape):
    """Small latents that steps of Adam have moved away from their threshold."""
    values = rng.uniform(-1e-3, 1e-3, shape)
    return values + 0.003 * np.sign(values) * rng.integers(0, 4, shape)


DRAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape) * 1e-4 + 1.0,
    "clustered": clustered,
    "with_outliers": with_outliers,
    "with_ties": with_ties,
    "as_glorot_trained": as_glorot_trained,
}


def thresholds(columns, way=INSIDE):
    """With the statistics of the step."""
    wide = tf.cast(columns, tf.float64 if columns.dtype == tf.float64 else tf.float32)
    mean, sigma = tf.reduce_mean(wide, 0), tf.math.reduce_std(wide, 0)
    return way(Filters(columns, mean, sigma))


def as_numbers(columns):
    return tf.cast(columns, tf.float64).numpy()


# Every distribution in every way, and every type on those that it makes harder: half
# precision makes ties of small differences, and has little room between clusters.
@pytest.mark.parametrize(
    "dtype, names, shape, way",
    [
        ("float32", [*DRAWS], SHAPE, INSIDE),
        ("float32", [*DRAWS], SHAPE, COMPILED),
        ("float32", [*DRAWS], SELECTED, INSIDE),
        ("bfloat16", ["laplace", "clustered", "as_glorot_trained"], SHAPE, INSIDE),
        ("float16", ["as_glorot_trained", "with_ties"], SHAPE, COMPILED),
        ("float64", ["normal"], SHAPE, INSIDE),
    ],
)
def test_the_signs_are_those_around_the_median(dtype, names, shape, way):
    for name in names:
        columns = tf.cast(DRAWS[name](np.random.default_rng(3), shape), dtype)
        values = as_numbers(columns)
        actual = values >= as_numbers(thresholds(columns, way))
        expected = values >= np.median(values, axis=0)
        assert_array_equal(actual, expected, err_msg=name)


# One, one of each, odd numbers, and more than 15 bits.
@pytest.mark.parametrize("count", [1, 2, 359, 6599, 40_001])
def test_every_number_of_weights(count):
    columns = np.random.default_rng(8).normal(size=(count, 8)).astype(np.float32)
    actual = columns >= thresholds(tf.constant(columns)).numpy()
    assert_array_equal(actual, columns >= np.median(columns, axis=0))


@every_way
def test_what_is_not_finite_spoils_one_filter(shape, way):
    columns = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    expected = np.median(columns, axis=0)
    spoilt = columns.copy()
    spoilt[5, 3], spoilt[7, 4] = np.nan, np.inf
    actual = spoilt >= thresholds(tf.constant(spoilt), way).numpy()
    others = np.delete(np.arange(10), (3, 4))
    assert_array_equal(actual[:, others], (columns >= expected)[:, others])


def test_compiled_or_not_the_kernel_is_the_same():
    # Large enough to be searched.
    kernel = np.random.default_rng(7).normal(size=(3, 3, 128, 58)).astype(np.float32)
    layer = ScaledStdSign(variance_preserving=True, balanced=True)
    expected = np.where(kernel >= np.median(kernel, axis=(0, 1, 2)), 1, -1)

    def apart(kernel):
        with unfused():
            return layer(kernel)

    whole = tf.function(layer.call, jit_compile=True, autograph=False)
    for run in (layer, tf.function(layer.call), tf.function(apart), whole):
        assert_array_equal(np.sign(run(tf.constant(kernel))), expected)


def test_autograph_has_nothing_to_say(caplog):
    """It warns of functions that it cannot read, into every training's output."""
    layer = lq.layers.QuantDense(4, kernel_quantizer=ScaledStdSign(balanced=True))
    layer.build((None, 8))
    caplog.set_level(logging.WARNING, logger="tensorflow")
    tf.get_logger().addHandler(caplog.handler)
    try:
        tf.function(layer)(tf.zeros((1, 8)))
    finally:
        tf.get_logger().removeHandler(caplog.handler)
    assert "AutoGraph" not in caplog.text
