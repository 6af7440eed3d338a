"""Gradient clipping around an optimizer: by hand, in mixed precision, beside Bop."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping, _silence
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.networks import (
    IMAGES,
    LABELS,
    apply,
    assert_close,
    clip,
    eager,
    gradients,
    numpy,
    variables,
)

new, legacy = keras.optimizers, keras.optimizers.legacy
FAMILIES = [new, legacy]
every_family = pytest.mark.parametrize("family", FAMILIES)


def clipped(raw, weights, clip_factor=0.01):
    """By hand: the kernel and the gain; the head as it is."""
    kernel, gain, head = zip(raw, weights, strict=True)
    kernel, gain = clip(*kernel, (0, 1, 2), clip_factor), clip(*gain, (0,), clip_factor)
    return [kernel.astype("float32"), gain.astype("float32"), head[0]]


def test_clipping_comes_before_weight_decay_and_constraint():
    weights = variables(constraint=lambda w: w * 0.5)  # which shows its place
    start = numpy(weights)
    wrapper = AdaptiveGradientClipping(new.SGD(1.0, weight_decay=0.1))
    wrapper.exclude_from_weight_decay(var_names=["gain"])
    raw = gradients()
    apply(wrapper, raw, weights)
    kernel, gain, head = start
    decayed = [kernel * 0.9, gain, head * 0.9]
    updates = clipped(raw, start)
    expected = [(w - g) * 0.5 for w, g in zip(decayed, updates, strict=True)]
    assert_close(numpy(weights), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family, exclude", [(new, ()), (legacy, ()), (new, ("tab",))])
def test_sparse_gradients(family, exclude):
    table = tf.Variable(np.ones((4, 2), np.float32), name="table/embeddings")
    values = tf.constant([[3.0, 0.0], [3.0, 8.0]])
    rows = tf.IndexedSlices(values, tf.constant([1, 1]), tf.constant([4, 2]))
    wrapper = AdaptiveGradientClipping(family.SGD(1.0), 0.1, exclude=exclude)
    wrapper.apply_gradients([(rows, table)])
    summed = np.array([[0, 0], [6, 8], [0, 0], [0, 0]])  # the same row twice
    expected = summed if exclude else clip(summed, np.ones((4, 2)), (1,), 0.1)
    assert_allclose(table, 1 - expected, rtol=1e-6)


@pytest.mark.parametrize(
    "family, which, name", [(new, 0, "conv/kernel"), (legacy, 2, "head/kernel")]
)
def test_a_gradient_that_is_not_finite_stops_before_any_update(family, which, name):
    weights = variables()
    wrapper = AdaptiveGradientClipping(family.Adam(0.1))
    apply(wrapper, gradients(), weights)  # which makes the state
    step = tf.function(apply, autograph=False)
    before = numpy(weights) + numpy(wrapper.inner_optimizer.variables())
    raw = gradients()
    raw[which][0] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}:0 contains NaN"):
        step(wrapper, raw, weights)
    after = numpy(weights) + numpy(wrapper.inner_optimizer.variables())
    assert_close(before, after, rtol=0)


AXES = {
    "conv/kernel:0": (0, 1, 2),
    "binary/kernel:0": (0, 1, 2),
    "prelu/alpha:0": (0, 1, 2),
    "conv/bias:0": (0,),
    "binary/bias:0": (0,),
}


def first_batch_updates(model):
    """Gradients of the first batch, clipped by the oracle; the head's as they are."""
    with tf.GradientTape() as tape:
        loss = model.loss(LABELS[:4], model(IMAGES[:4], training=True))
    weights = model.trainable_variables
    return [
        clip(g, w, AXES[w.name], 0.01) if w.name in AXES else g.numpy()
        for g, w in zip(tape.gradient(loss, weights), weights, strict=True)
    ]


@every_family
def test_a_training_step_equals_clipping_by_hand(family):
    model = eager(AdaptiveGradientClipping(family.SGD(0.1)))
    start = numpy(model.trainable_variables)
    updates = first_batch_updates(model)
    model.train_on_batch(IMAGES[:4], LABELS[:4])
    expected = [w - 0.1 * update for w, update in zip(start, updates, strict=True)]
    assert_close(numpy(model.trainable_variables), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["scaled_std_sign", "ste_sign"])
def test_silent_weights_and_the_lower_bound_of_binary_kernels(kind, monkeypatch):
    """Ten steps against OvSW in float64, with an average that forgets sooner."""
    monkeypatch.setattr(_silence, "MOMENTUM", 0.5)
    monkeypatch.setattr(_silence, "THRESHOLD", 0.2)
    layer = lq.layers.QuantDense(4, kernel_quantizer=kind, use_bias=False)
    layer.build((None, 6))
    other = tf.Variable(np.ones((6, 4), np.float32), name="other/kernel")
    wrapper = AdaptiveGradientClipping(
        new.SGD(0.5), 10.0, exclude=(), lower_factor=0.4, silent_decay=0.3
    )
    rng = np.random.default_rng(4)
    w = rng.normal(size=(6, 4)).astype(np.float32).astype(np.float64)
    layer.kernel.latent_variable.assign(w)
    signs, rate, seen = np.zeros((6, 4)), np.zeros((6, 4)), set()
    for _ in range(10):
        raw = rng.normal(size=(6, 4)).astype(np.float32) * 0.1
        offset = w - (w.mean(0) if kind == "scaled_std_sign" else 0)
        now = np.where(offset >= 0, 1, -1)
        rate, signs = 0.5 * rate + 0.5 * (signs * now < 0), now
        update = clip(raw, w, (0,), 10.0, lower=0.4) + 0.3 * (rate < 0.2) * offset
        w = w - 0.5 * update
        seen |= {*(rate < 0.2).ravel()}
        apply(wrapper, [raw, raw], [layer.kernel, other])
        assert_allclose(layer.kernel.latent_variable, w, rtol=1e-4, atol=1e-5)
    assert seen == {True, False}
    assert len(wrapper.variables()) == 3 + 2  # those of SGD, signs and rates
    before = other.numpy()
    apply(wrapper, [raw, raw], [layer.kernel, other])
    assert_allclose(other, before - 0.5 * raw, rtol=1e-6)  # not scaled up


def bop_and(default):
    return lq.optimizers.CaseOptimizer(
        (lq.optimizers.Bop.is_binary_variable, lq.optimizers.Bop(gamma=0.5)),
        default_optimizer=default,
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: bop_and(AdaptiveGradientClipping(legacy.SGD(0.1))),
        lambda: AdaptiveGradientClipping(bop_and(legacy.SGD(0.1))),
    ],
    ids=["inside", "outside"],
)
def test_beside_bop(optimizer):
    model = eager(optimizer(), lq.quantizers.NoOp(precision=1))
    kernel = model.get_layer("binary").kernel
    kernel.assign(np.where(kernel.numpy() > 0, 1.0, -1.0))
    updates = first_batch_updates(model)
    with tf.GradientTape() as tape:
        loss = model.loss(LABELS[:4], model(IMAGES[:4], training=True))
    raw = tape.gradient(loss, kernel).numpy()
    start = numpy(model.trainable_variables)
    model.train_on_batch(IMAGES[:4], LABELS[:4])
    for before, weight, update in zip(
        start, model.trainable_variables, updates, strict=True
    ):
        if weight.name == "binary/kernel:0":
            # Bop, unclipped: a weight flips where it agrees with gamma * gradient.
            flipped = np.where(before * (0.5 * raw) > 1e-8, -before, before)
            assert 0 < np.sum(flipped != before) < before.size
            assert_array_equal(weight, flipped)
        else:
            assert_allclose(weight, before - 0.1 * update, rtol=1e-4, atol=1e-6)
