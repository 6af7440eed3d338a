"""Boolean accumulation: its rule, its state, and that it trains."""

import json

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping, BooleanAccumulation
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.networks import IMAGES, LABELS, eager, train
from optimizers.test_files import in_case

schedules = keras.optimizers.schedules


def network(optimizer=None, policy="float32"):
    quantizer = lq.quantizers.NoOp(precision=1, dtype=policy)
    return eager(optimizer or in_case(), quantizer, policy)


def step(optimizer, weight, gradient):
    optimizer.apply_gradients([(tf.convert_to_tensor(gradient, weight.dtype), weight)])


def state(optimizer, weight):
    return [
        optimizer.get_slot(weight, name).numpy() for name in ("accumulator", "kept")
    ]


def loop(weights, gradients, rates):
    """The rule weight by weight in float64; yields the state after each step."""
    w, m, kept = weights.astype("float64"), np.zeros(weights.shape), 1.0
    for g, rate in zip(gradients.astype("float64"), rates, strict=True):
        flips = 0
        for i in np.ndindex(w.shape):
            m[i] = kept * m[i] + rate * g[i]
            if m[i] * w[i] >= 1:
                w[i], m[i], flips = -w[i], 0.0, flips + 1
        kept = 1 - flips / w.size
        yield w, m, kept


@pytest.mark.parametrize("dtype, compiled", [("float32", True), ("float64", False)])
def test_twenty_steps_against_a_loop(dtype, compiled):
    rng = np.random.default_rng(3)
    start = rng.choice([-1.0, 1.0], (3, 3, 4, 5))
    gradients = rng.normal(scale=0.02, size=(20, *start.shape)).astype(dtype)
    decay = schedules.PolynomialDecay(40.0, 20, 10.0)
    weight = tf.Variable(start, dtype=dtype)
    optimizer = BooleanAccumulation(decay)
    apply = tf.function(step) if compiled else step
    expected = loop(start, gradients, [float(decay(i)) for i in range(20)])
    fractions = []
    for gradient, (w, m, kept) in zip(gradients, expected, strict=True):
        apply(optimizer, weight, tf.constant(gradient))
        assert_array_equal(weight, w)
        actual = state(optimizer, weight)
        assert_allclose(actual[0], m, rtol=1e-5, atol=1e-6)  # sums of up to 20 terms
        assert_allclose(actual[1], kept, rtol=1e-6)
        fractions.append(kept)
    assert 0.5 < min(fractions) < 0.99  # they played their part


def test_kernels_stay_binary_in_training():
    model = network(policy="mixed_float16")
    binary, last = model.get_layer("binary"), model.get_layer("head")
    belongs = BooleanAccumulation.is_binary_variable
    kinds = [belongs(w) for w in (binary.kernel, binary.bias, last.kernel)]
    assert kinds == [True, False, False]
    kernel = binary.kernel.latent_variable
    signs = []
    for _ in range(3):
        train(model)
        signs.append(kernel.numpy())
        assert set(np.unique(signs[-1])) == {-1.0, 1.0}
    assert np.any(signs[0] != signs[2])
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert optimizer.optimizers[0].get_slot(kernel, "accumulator").dtype == tf.float32


def test_configurations():
    decay = schedules.CosineDecay(100.0, 10)
    for optimizer in (
        BooleanAccumulation(),
        BooleanAccumulation(0.5, name="flips"),
        BooleanAccumulation(decay),
    ):
        config = optimizer.get_config()
        assert set(config) == {"name", "learning_rate"}
        step(optimizer, tf.Variable([1.0]), [0.0])
        later = optimizer.get_config()
        assert later == config
        again = BooleanAccumulation.from_config(json.loads(json.dumps(later)))
        assert again.get_config() == config
    case = lq.optimizers.CaseOptimizer.from_config(in_case(0.25).get_config())
    assert type(case.optimizers[0]) is BooleanAccumulation
    assert case.optimizers[0].get_config()["learning_rate"] == 0.25


def test_it_is_not_clipped_alone_nor_beside_others():
    kernels = []
    for wrap in (
        lambda inner: AdaptiveGradientClipping(inner, 1e-6),
        lambda inner: inner,
    ):
        weight = tf.Variable([[1.0], [-1.0]], name="kernel")
        step(wrap(BooleanAccumulation(1.25)), weight, [[0.75], [-0.9]])
        assert_array_equal(weight, [[1.0], [1.0]])
        model = network(wrap(in_case()))
        kernel = model.get_layer("binary").kernel
        start = np.where(kernel.numpy() < 0, -1, 1)
        model.train_on_batch(IMAGES, LABELS)
        kernels.append(kernel.numpy())
    assert np.any(kernels[0] != start)
    assert_array_equal(*kernels)
