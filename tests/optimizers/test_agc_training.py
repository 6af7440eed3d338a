"""The wrapper where models are trained: precision, callbacks, Larq, XLA, replicas."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.agc_model import IMAGES, LABELS, build, eager, fit, train
from optimizers.agc_oracle import clip
from replicas import assert_replicas_agree

new, legacy = keras.optimizers, keras.optimizers.legacy
FAMILIES = [new, legacy]
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


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compiled", [False, True])
def test_fit_equals_clipping_by_hand(family, compiled):
    wrapper = AdaptiveGradientClipping(family.SGD(0.1))
    model = build(wrapper, jit_compile=compiled)
    start = [w.numpy() for w in model.trainable_variables]
    expected = [
        w - 0.1 * update
        for w, update in zip(start, first_batch_updates(model), strict=True)
    ]
    model.train_on_batch(IMAGES[:4], LABELS[:4])
    for weight, target in zip(model.trainable_variables, expected, strict=True):
        assert_allclose(weight, target, rtol=1e-4, atol=1e-6)


def test_an_optimizer_that_compiles_its_update():
    results = []
    for compiled in (False, True):
        inner = new.Adam(0.1)
        inner.jit_compile = compiled  # the constructor ignores it without a GPU
        model = eager(AdaptiveGradientClipping(inner))
        train(model)
        results.append(model.get_weights())
    for plain, by_xla in zip(*results, strict=True):
        assert_allclose(plain, by_xla, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(family, policy):
    model = eager(AdaptiveGradientClipping(family.SGD(0.1)), policy=policy)
    scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    if scaled:
        assert isinstance(model.optimizer.inner_optimizer, AdaptiveGradientClipping)
    start = [w.numpy() for w in model.trainable_variables]
    train(model, 4)  # eight steps; loss scaling skips the first of them
    for before, weight in zip(start, model.trainable_variables, strict=True):
        update = (before - weight.numpy()) / 0.1
        assert np.any(update != 0) and np.all(np.isfinite(update))
        if weight.name in AXES:  # each step within its limit
            axes = AXES[weight.name]
            norms = np.sqrt(np.sum(np.square(update), axes))
            limits = 0.08 * np.maximum(np.sqrt(np.sum(np.square(before), axes)), 1e-3)
            assert np.all(norms <= limits * 1.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_scaling_is_undone_before_clipping_and_its_overflow_skips_a_step(family):
    weight = tf.Variable([[3.0], [4.0]], name="kernel")
    scaler = keras.mixed_precision.LossScaleOptimizer(
        AdaptiveGradientClipping(family.SGD(1.0)), initial_scale=1024.0
    )
    scaler.get_scaled_loss(tf.constant(1.0))
    small = tf.constant([[0.006], [0.008]])  # within the limit once un-scaled
    scaler.apply_gradients([(scaler.get_unscaled_gradients([small * 1024])[0], weight)])
    assert_allclose(weight, [[2.994], [3.992]], rtol=1e-6)
    scaler.apply_gradients([(tf.constant([[np.inf], [0.0]]), weight)])
    assert_allclose(weight, [[2.994], [3.992]], rtol=1e-6)
    assert float(scaler.loss_scale) == 512.0


@pytest.mark.parametrize("family", FAMILIES)
def test_callbacks_that_set_the_learning_rate(family):
    model = eager(AdaptiveGradientClipping(family.SGD(0.1)))
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = fit(model, 2, halve)
    assert_allclose(history["lr"], [0.05, 0.025])
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.1, patience=0, min_delta=100.0
    )
    fit(model, 2, plateau)
    assert_allclose(keras.backend.get_value(model.optimizer.lr), 0.0025, rtol=1e-5)
    assert_allclose(model.optimizer.get_config()["optimizer"]["config"][
        "learning_rate"], 0.0025, rtol=1e-5)  # fmt: skip


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
    start = [w.numpy() for w in model.trainable_variables]
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


def test_bop_alone_is_not_clipped():
    results = []
    for wrap in (AdaptiveGradientClipping, lambda inner: inner):
        weight = tf.Variable([[1.0], [-1.0]], name="kernel")
        optimizer = wrap(lq.optimizers.Bop(threshold=0.3, gamma=0.5))
        optimizer.apply_gradients([(tf.constant([[0.5], [0.9]]), weight)])
        optimizer.apply_gradients([(tf.constant([[0.5], [-0.9]]), weight)])
        results.append(weight.numpy())
    assert_array_equal(*results)
    assert_array_equal(results[0], [[-1.0], [-1.0]])


def test_case_optimizer_configs_round_trip():
    inside = bop_and(AdaptiveGradientClipping(legacy.Adam(), 0.5, exclude=("^x/",)))
    config = inside.get_config()
    restored = lq.optimizers.CaseOptimizer.from_config(config)
    assert isinstance(restored.default, AdaptiveGradientClipping)
    assert restored.default.get_config() == config["default_config"]["config"]

    outside = AdaptiveGradientClipping(bop_and(legacy.Adam()), 0.5)
    config = outside.get_config()
    restored = AdaptiveGradientClipping.from_config(config)
    assert isinstance(restored.inner_optimizer, lq.optimizers.CaseOptimizer)
    assert restored.get_config() == config


REPLICAS = """
from larq_nobn._keras import keras
import numpy as np
from optimizers.agc_oracle import clip
from optimizers.agc_model import build, eager, fit
from larq_nobn.optimizers import AdaptiveGradientClipping

start = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
parts = np.random.default_rng(1).normal(size=(2, 4, 3)).astype("float32")
parts[1] -= 0.9 * parts[0]  # the clipped sum is far from the sum of the clipped
parts[..., 2] *= 1e-3  # within its limit, where a sum that is taken twice shows
expected = start - clip(parts.sum(0), start, (0,), 0.01)
rows = []
for family in (keras.optimizers, keras.optimizers.legacy):
    for scaled in (False, True):
        for skip in (False, True):
            with strategy.scope():
                weight = tf.Variable(start, name="kernel")
                optimizer = AdaptiveGradientClipping(family.SGD(1.0))
                if scaled:
                    optimizer = keras.mixed_precision.LossScaleOptimizer(
                        optimizer, dynamic=False, initial_scale=1.0)
                    optimizer.get_scaled_loss(tf.constant(1.0))
                    optimizer.get_unscaled_gradients([])
                # With its state there, the step is traced once and not twice.
                if family is keras.optimizers:
                    optimizer.build([weight])
                else:
                    optimizer._create_all_weights([weight])
            rows.append(((family.__name__, scaled, skip), optimizer, weight))

@tf.function(autograph=False)
def step():
    context = tf.distribute.get_replica_context()
    gradient = tf.gather(parts, context.replica_id_in_sync_group)
    total = context.all_reduce("sum", gradient)
    for (*_, skip), optimizer, weight in rows:
        optimizer.apply_gradients(
            [(total if skip else gradient, weight)],
            experimental_aggregate_gradients=not skip)

strategy.run(step)
for row, _, weight in rows:
    for copy in strategy.experimental_local_results(weight):
        np.testing.assert_allclose(copy, expected, 1e-5, 1e-6, err_msg=str(row))

one = eager(AdaptiveGradientClipping("adam"), policy="mixed_float16")
fit(one)
with strategy.scope():
    both = build(AdaptiveGradientClipping("adam"), policy="mixed_float16")
fit(both)
for a, b in zip(one.get_weights(), both.get_weights()):
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
"""


@pytest.mark.slow
def test_replicas_clip_the_summed_gradient():
    assert_replicas_agree(REPLICAS)
