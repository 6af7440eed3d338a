"""Clipped units counted by hand; wherever the clipping stands, and in no file."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from callback_networks import IMAGES, LABELS, compiled, fit, scalars
from larq_nobn._keras import keras
from larq_nobn.callbacks import GradientClippingMonitor
from larq_nobn.optimizers import AdaptiveGradientClipping
from larq_nobn.training._training_model import TrainingModel

new, legacy = keras.optimizers, keras.optimizers.legacy
FACTOR = 0.5  # some are clipped, some are not
# The axes of a unit, by the leaf of the name; the head is excluded.
AXES = {"kernel:0": (0,), "bias:0": (0,), "alpha:0": (0,)}


def clipped_by_hand(model, excluded=("head/kernel:0", "head/bias:0")):
    """`{layer: [clipped, all]}` units of an epoch, with the weights as they are."""
    counts = {}
    for start in range(0, 16, 4):
        with tf.GradientTape() as tape:
            outputs = model(IMAGES[start : start + 4], training=True)
            loss = model.loss(LABELS[start : start + 4], outputs)
        weights = model.trainable_variables
        for gradient, weight in zip(tape.gradient(loss, weights), weights, strict=True):
            layer, _, leaf = weight.name.rpartition("/")
            if weight.name in excluded:
                continue
            axes = AXES[leaf]
            norms = np.sqrt(np.sum(np.square(gradient.numpy()), axes))
            limit = np.sqrt(np.sum(np.square(weight.latent_variable.numpy()
                if leaf == "kernel:0" else weight.numpy()), axes))  # fmt: skip
            over = norms > FACTOR * np.maximum(limit, 1e-3)
            count = counts.setdefault(layer.partition("/")[0], [0, 0])
            count[0] += int(np.sum(over))
            count[1] += over.size
    return counts


def still(family):
    """Does not move the weights, so that the oracle can follow."""
    return family.SGD(0.0)


def with_bop(default):
    never = lq.optimizers.Bop(threshold=1e9)
    return lq.optimizers.CaseOptimizer(
        (lambda variable: variable.name == "binary/bias:0", never),
        default_optimizer=default,
    )


def scaled(optimizer):
    return keras.mixed_precision.LossScaleOptimizer(optimizer)


def clipping(inner):
    return AdaptiveGradientClipping(inner, FACTOR)


PLACES = {
    "several-steps": lambda: clipping(still(new)),
    "scaled-legacy": lambda: scaled(clipping(still(legacy))),
    "inside-cases": lambda: with_bop(clipping(still(legacy))),
}
COMPILED = {"several-steps": {"steps_per_execution": 2}}


@pytest.mark.parametrize("place", PLACES)
def test_shares_against_a_count_by_hand(place, tmp_path):
    model = compiled(optimizer=PLACES[place](), **COMPILED.get(place, {}))
    model.get_layer("binary").bias.assign(tf.ones(5))  # Bop leaves ±1 as it is
    by_bop = ["binary/bias:0"] * ("cases" in place)
    expected = clipped_by_hand(model, ["head/kernel:0", "head/bias:0", *by_bop])
    history = fit(model, GradientClippingMonitor(log_dir=tmp_path), epochs=1)
    clipped, seen = np.sum(list(expected.values()), axis=0)
    assert 0 < clipped < seen
    assert history["clipped_share"] == pytest.approx([clipped / seen])
    written = scalars(tmp_path)
    assert set(written) == {"clipped_share", "clipped_share/binary"}
    assert written["clipped_share/binary"][0] == pytest.approx(clipped / seen)


def test_each_epoch_counts_on_its_own():
    model = compiled(optimizer=clipping(still(new)))
    kernel = model.get_layer("binary").kernel.latent_variable
    start, counts = kernel.numpy(), []

    def enlarge(epoch, logs=None):
        kernel.assign(100.0**epoch * start)
        counts.append(clipped_by_hand(model)["binary"])

    larger = keras.callbacks.LambdaCallback(on_epoch_begin=enlarge)
    history = fit(model, larger, GradientClippingMonitor())
    assert counts[0][0] > counts[1][0]
    assert history["clipped_share"] == pytest.approx([n / of for n, of in counts])


def test_a_step_that_was_compiled_before_counts_too_and_only_once():
    model = compiled(optimizer=clipping(still(new)), run_eagerly=False)
    clipped, seen = clipped_by_hand(model)["binary"]
    assert 0 < clipped < seen
    expected = pytest.approx([clipped / seen])
    fit(model)
    assert fit(model, GradientClippingMonitor(), epochs=1)["clipped_share"] == expected
    step = model.train_function
    fit(model, epochs=1)  # counts on, unseen
    assert fit(model, GradientClippingMonitor(), epochs=1)["clipped_share"] == expected
    assert model.train_function is step


def test_accumulated_gradients_count_once_per_update():
    network = compiled(optimizer=clipping(still(new)))
    by_hand = clipped_by_hand(network)
    trainee = TrainingModel(network, accumulate=2)
    trainee.compile(network.optimizer, network.loss, run_eagerly=True)
    fit(trainee, GradientClippingMonitor(), epochs=1)
    clipped, seen = network.optimizer._counts.totals()
    expected = np.sum([*by_hand.values()], axis=0)
    assert [clipped.sum(), seen.sum()] == expected.tolist()


def test_steps_that_loss_scaling_skips_do_not_count():
    optimizer = clipping(still(new))
    weight = tf.Variable([[3.0], [4.0]], name="kernel")
    counts = optimizer._count_for([weight])
    scaler = keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=2.0)

    @tf.function
    def step(gradient):
        unscaled = scaler.get_unscaled_gradients([gradient])
        scaler.apply_gradients(zip(unscaled, [weight], strict=True))

    scaler.get_scaled_loss(tf.constant(1.0))
    for value in (10.0, np.inf, 0.1):  # clipped, skipped, within its limit
        step(tf.constant([[value], [0.0]]))
    assert counts.totals().tolist() == [[1], [2]]


def test_no_file_and_no_checkpoint_contains_the_counters(tmp_path):
    names = []
    for watched in (False, True):
        model = compiled(optimizer=clipping(new.Adam(0.01)))
        watching = [GradientClippingMonitor()] * watched
        fit(model, *watching, epochs=1, steps_per_epoch=1)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.optimizer._counts is None
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        path = checkpoint.write(tmp_path / f"checkpoint-{watched}")
        config = model.optimizer.get_config()
        names.append((tf.train.list_variables(path), config))
    assert names[0] == names[1]
