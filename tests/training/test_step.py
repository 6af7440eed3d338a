"""The training step against Keras' own, and against gradients written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import training
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.quantizers import BinaryRegularized
from larq_nobn.training._training_model import (
    NOT_FINITE,
    TrainingModel,
    attention_distance,
    with_feature_maps,
)
from numpy.testing import assert_allclose, assert_array_equal
from training.runs import with_little_network

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(24, 5)).astype(np.float32)
LABELS = RNG.integers(0, 3, 24)


def cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy() -> keras.metrics.Metric:
    """An object, since steps with a metric by name are traced twice."""
    return keras.metrics.SparseCategoricalAccuracy("accuracy", "float32")


def compiled(
    network: keras.Model, optimizer: object, eagerly: bool = True, **step: object
) -> keras.Model:
    """The network as Keras trains it, or under our step if that is described."""
    way = {"metrics": [accuracy()], "jit_compile": False, "run_eagerly": eagerly}
    network.compile(optimizer, cross_entropy(), **way)
    if not eagerly:  # or it is traced once more
        optimizer.build(network.trainable_variables)
    if not step:
        return network
    trainee = TrainingModel(network, **step)
    trainee.compile(network.optimizer, network.loss, **way)
    return trainee


def dense(**options: object) -> keras.Model:
    """x·W + b, from the same start each time."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,))
    layer = keras.layers.Dense(3, dtype="float32", **options)
    return keras.Model(inputs, layer(inputs))


def penalized() -> keras.Model:
    """A binary layer whose quantizer adds a loss; in its other input is no gradient."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,))
    quantizer = BinaryRegularized(lq.quantizers.SteSign(), strength=0.1)
    binary = lq.layers.QuantDense(4, kernel_quantizer=quantizer)(inputs)
    unreached = keras.layers.Dense(4, name="unreached")(inputs)
    total = keras.layers.Add()(
        [binary, keras.layers.Lambda(tf.stop_gradient)(unreached)]
    )
    return keras.Model(inputs, keras.layers.Dense(3)(total))


def test_penalties_count_once_and_unreached_weights_are_left_alone():
    results = []
    for step in ({}, {"accumulate": 4}):
        network = penalized()
        optimizer = keras.optimizers.Adam(0.01, weight_decay=0.1)
        model = compiled(network, optimizer, **step)
        loss, _, *penalty = model.train_on_batch(INPUTS, LABELS)
        results.append([loss + sum(penalty), *network.get_weights()])
    for ours, theirs in zip(*results, strict=True):
        assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    start = penalized().get_layer("unreached").get_weights()
    assert_array_equal(network.get_layer("unreached").get_weights()[0], start[0])


def decayed() -> keras.Model:
    """x·W + b with the penalty 0.05·ΣW² + 0.01·Σ|b|."""
    return dense(kernel_regularizer=keras.regularizers.L2(0.05), bias_regularizer="l1")


@pytest.mark.parametrize(
    "network, accumulate", [(dense, 1), (decayed, 1), (penalized, 2)]
)
def test_loss_and_penalty_are_reported_apart_and_minimized_together(
    network: Callable[[], keras.Model], accumulate: int
):
    actual = []
    for step in ({"accumulate": accumulate}, {}):
        trained = network()
        model = compiled(trained, keras.optimizers.SGD(0.1), **step)
        data = {"validation_data": (INPUTS[:7], LABELS[:7]), "shuffle": False}
        history = model.fit(INPUTS, LABELS, 12, epochs=2, verbose=0, **data).history
        actual.append((history, trained))
    (ours, network_), (theirs, by_keras) = actual
    # Parts of a batch are added up in another order.
    off = {} if accumulate == 1 else {"rtol": 1e-5, "atol": 1e-6}
    weights = (each.get_weights() for each in (network_, by_keras))
    for mine, its in zip(*weights, strict=True):
        assert_allclose(mine, its, **{"rtol": 0, "atol": 0, **off})
    losses = ["loss", "val_loss", *["penalty"] * bool(network_.losses)]
    assert sorted(ours) == sorted([*losses, "accuracy", "val_accuracy"])
    penalty = np.array(ours.get("penalty", 0.0))
    assert_allclose(np.array(ours["loss"]) + penalty, theirs["loss"], rtol=1e-5)
    predicted = softmax(network_.predict(INPUTS[:7], verbose=0).astype(np.float64))
    expected = -np.mean(np.log(predicted[np.arange(7), LABELS[:7]]))
    assert ours["val_loss"][-1] == pytest.approx(expected, rel=1e-5)


def test_a_penalty_is_the_mean_over_the_steps_of_an_epoch():
    network = decayed()
    kernel = network.get_weights()[0].astype(np.float64)
    trainee = compiled(network, keras.optimizers.SGD(0.0), accumulate=1)
    network.layers[-1].bias.assign([1.0, -2.0, 0.5])
    history = trainee.fit(INPUTS, LABELS, 10, verbose=0).history
    expected = 0.05 * np.sum(kernel**2) + 0.01 * 3.5
    assert history["penalty"] == [pytest.approx(expected, rel=1e-6)]
    names = {variable.name for variable in trainee.weights}
    assert names == {variable.name for variable in network.weights}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


MIXED = RNG.dirichlet(np.ones(3), 24).astype(np.float32)
WEIGHTS = (0.5, 1.0, 2.5)


# Each two of them with and without each other.
@pytest.mark.parametrize(
    ("mixed", "smoothing", "weights", "accumulate"),
    [
        (False, 0.0, None, 1),
        (False, 0.2, WEIGHTS, 3),
        (True, 0.0, WEIGHTS, 3),
        (True, 0.2, None, 3),
        (True, 0.2, WEIGHTS, 1),
    ],
)
def test_gradient_loss_and_accuracy_of_smoothed_mixed_and_weighted_labels(
    mixed: bool, smoothing: float, weights: tuple[float, ...] | None, accumulate: int
):
    network = dense()
    trainee = compiled(
        network,
        keras.optimizers.SGD(1.0),
        label_smoothing=smoothing,
        class_weights=weights,
        accumulate=accumulate,
    )
    before = network.get_weights()[0]
    tested, _ = trainee.test_on_batch(INPUTS, LABELS)
    trainee.reset_metrics()
    labels = MIXED if mixed else LABELS
    logs = trainee.train_step((tf.constant(INPUTS), tf.constant(labels)))
    whole = MIXED.astype(np.float64) if mixed else np.eye(3)[LABELS]
    target = (1 - smoothing) * whole + smoothing / 3
    weight = np.ones(24) if weights is None else whole @ np.array(weights)
    log_softmax = np.log(softmax(INPUTS.astype(np.float64) @ before))
    error = weight[:, None] * (np.exp(log_softmax) - target) / 24
    # Sums of two dozen float32 numbers around 1.
    moved = before - network.get_weights()[0]
    assert_allclose(moved, INPUTS.T @ error, atol=4e-6)
    actual = whole.argmax(1)
    assert_allclose(logs["accuracy"], np.mean(log_softmax.argmax(1) == actual), 1e-6)
    plain = -log_softmax[np.arange(24), LABELS]
    assert_allclose(tested, plain.mean(), rtol=1e-6)  # of labels as they are
    if accumulate == 1:
        loss = np.mean(weight * -(target * log_softmax).sum(1))
        assert_allclose(logs["loss"], loss, rtol=1e-6)


def test_a_teacher_takes_the_place_of_mixed_labels():
    taught = RNG.dirichlet(np.ones(3), 24).astype(np.float32)
    network = dense()
    optimizer = keras.optimizers.SGD(1.0)
    trainee = compiled(network, optimizer, teacher=lambda images: tf.constant(taught))
    before = network.get_weights()[0]
    trainee.train_step((tf.constant(INPUTS), tf.constant(MIXED)))
    error = softmax(INPUTS.astype(np.float64) @ before) - taught
    moved = before - network.get_weights()[0]
    assert_allclose(moved, INPUTS.T @ error / 24, atol=4e-6)


def test_weights_of_classes(tmp_path: Path):
    settings = training.RunSettings(
        "plain", dataset="digits", limit=25, balance_classes=True, width=4, blocks=(1,)
    )
    # Three of each of the first five classes, two of each other one.
    expected = [25 / (10 * 3)] * 5 + [25 / (10 * 2)] * 5
    for balance in (True, False):
        changed = replace(settings, balance_classes=balance)
        trainer = training.Trainer(changed, output=tmp_path)
        with with_little_network():
            trainer.build()
        actual = trainer.model._class_weights
        assert actual is None if not balance else actual == pytest.approx(expected)


def attention(ours, theirs):
    """The distance of attention maps, in float64."""
    total = 0.0
    for size in ours.keys() & theirs.keys():
        units = []
        for maps in (ours[size], theirs[size]):
            q = (maps**2).sum(-1).reshape(len(maps), -1)
            units.append(q / np.linalg.norm(q, axis=1, keepdims=True))
        total += ((units[0] - units[1]) ** 2).sum(1).mean()
    return total


def test_attention_distance_and_its_gradient():
    ours = {"4x4": RNG.normal(size=(2, 4, 4, 3)), "2x2": RNG.normal(size=(2, 2, 2, 3))}
    theirs = {
        "4x4": RNG.normal(size=(2, 4, 4, 5)),
        "2x2": RNG.normal(size=(2, 2, 2, 1)),
    }
    ours["8x8"] = RNG.normal(size=(2, 8, 8, 1))  # the teacher has no such map
    variables = {name: tf.Variable(maps) for name, maps in ours.items()}
    with tf.GradientTape() as tape:
        distance = attention_distance(variables, theirs)
    assert_allclose(distance, attention(ours, theirs), rtol=1e-12)
    slope = RNG.normal(size=(2, 4, 4, 3))
    (gradient,) = tape.gradient(distance, [variables["4x4"]])
    ahead, back = (
        attention({**ours, "4x4": ours["4x4"] + h * slope}, theirs)
        for h in (1e-5, -1e-5)
    )
    assert_allclose(np.sum(gradient * slope), (ahead - back) / 2e-5, rtol=1e-6)
    with pytest.raises(ValueError, match=r"\['8x8'\] and \['2x2'\]"):
        attention_distance({"8x8": ours["8x8"]}, {"2x2": theirs["2x2"]})


def test_a_step_with_attention():
    keras.utils.set_random_seed(1)
    image = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", name="conv")(image)
    x = lq.layers.QuantConv2D(3, 2, 2, input_quantizer="ste_sign")(x)
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    maps = with_feature_maps(network).output[1]
    assert [maps["4x4"].shape, maps["2x2"].shape] == [(None, 4, 4, 3), (None, 2, 2, 3)]
    inputs = RNG.normal(size=(6, 4, 4, 2)).astype(np.float32)
    taught = {"4x4": tf.constant(inputs), "2x2": tf.constant(inputs[:, :2, :2])}
    probabilities = tf.constant(RNG.dirichlet(np.ones(3), 6).astype(np.float32))
    trainee = compiled(
        network,
        keras.optimizers.SGD(1.0),
        teacher=lambda images: (probabilities, taught),
        attention=0.7,
    )
    weights = [*network.trainable_variables]
    with tf.GradientTape() as tape:
        logits, maps = with_feature_maps(network)(inputs, training=True)
        loss = tf.nn.softmax_cross_entropy_with_logits(probabilities, logits)
        total = tf.reduce_mean(loss) + 0.7 * attention_distance(maps, taught)
    gradients = tape.gradient(total, weights)
    before = [weight.numpy() for weight in weights]
    logs = trainee.train_on_batch(inputs, LABELS[:6], return_dict=True)
    for weight, start, gradient in zip(weights, before, gradients, strict=True):
        assert_allclose(weight, start - gradient, rtol=1e-5, atol=1e-6)
    assert_allclose(
        logs["loss"], tf.reduce_mean(loss), rtol=1e-6
    )  # without the distance


def test_a_teacher_is_no_part_of_the_network():
    network, teacher = dense(), dense()
    trainee = compiled(network, keras.optimizers.SGD(0.5), teacher=teacher)
    before = teacher.get_weights()[0]
    trainee.train_on_batch(INPUTS, LABELS)
    assert [id(w) for w in trainee.weights] == [id(w) for w in network.weights]
    assert trainee.layers == network.layers
    assert_array_equal(teacher.get_weights()[0], before)


def test_a_loss_that_is_not_finite_updates_nothing():
    network, accumulate = dense(), 3
    # In a graph, where only what is tied together keeps its order.
    trainee = compiled(network, keras.optimizers.Adam(), False, accumulate=accumulate)
    trainee.train_on_batch(INPUTS, LABELS)
    before = network.get_weights()
    poisoned = INPUTS.copy()
    poisoned[-1, 0] = np.inf
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        trainee.train_on_batch(poisoned, LABELS)
    for ours, theirs in zip(network.get_weights(), before, strict=True):
        assert_array_equal(ours, theirs)
    assert int(trainee.optimizer.iterations) == 1


def half_precise() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden))


def test_steps_under_loss_scaling_are_those_of_keras():
    results = []
    for step in ({}, {"accumulate": 1}, {"accumulate": 3}):
        with dtype_policy("mixed_float16"):
            network = half_precise()
            scaling = keras.mixed_precision.LossScaleOptimizer
            optimizer = scaling(keras.optimizers.SGD(0.5), initial_scale=2.0**40)
            model = compiled(network, optimizer, False, **step)
        start = network.get_weights()
        model.train_on_batch(INPUTS, LABELS)  # overflows: halves the scale only
        for ours, theirs in zip(network.get_weights(), start, strict=True):
            assert_array_equal(ours, theirs)
        assert float(optimizer.loss_scale) == 2.0**39
        optimizer._loss_scale.current_loss_scale.assign(1024.0)
        model.train_on_batch(INPUTS, LABELS)
        results.append(network.get_weights())
        assert not np.array_equal(network.get_weights()[0], start[0])
    for by_keras, plain, parts in zip(*results, strict=True):
        assert_array_equal(plain, by_keras)
        assert_allclose(parts, by_keras, atol=2e-3)  # activations of 11 bits


@pytest.mark.usefixtures("little_network")
def test_half_precision_is_confined_to_the_run(tmp_path: Path):
    precision = "mixed_float16"
    settings = training.RunSettings(
        "plain",
        dataset="digits",
        width=4,
        blocks=(1,),
        epochs=1,
        batch_size=16,
        limit=32,
    )
    run = training.train(replace(settings, precision=precision), tmp_path / "run")
    assert np.isfinite(run.record["metrics"]["test_loss"])
    assert run.model.dtype_policy.name == precision
    assert keras.mixed_precision.global_policy().name == "float32"
    reopened = training.load_run(run.folder).model
    for ours, theirs in zip(
        run.model.get_weights(), reopened.get_weights(), strict=True
    ):
        assert_array_equal(ours, theirs)
