"""Population statistics against those that NumPy finds in float64."""

import numpy as np
import tensorflow as tf
from larq_nobn import layers
from larq_nobn._keras import keras
from larq_nobn.surgery import reestimate_batch_norm
from numpy.testing import assert_allclose, assert_array_equal
from surgery.properties import untouched

BatchNorm = keras.layers.BatchNormalization
# Inputs are float32; statistics of up to 1e3 of them are exact to about that.
CLOSE = {"rtol": 2e-6, "atol": 2e-6}


def draw(*shape, seed=0, mean=3.0, deviation=2.0):
    return np.random.default_rng(seed).normal(mean, deviation, shape).astype("float32")


def alone(norm, *shape):
    """A model of one batch norm."""
    inputs = keras.Input(shape)
    outputs = norm(inputs)
    return keras.Model(inputs, outputs[0] if isinstance(outputs, tuple) else outputs)


def population(x, axes=(-1,)):
    """Mean and variance over all other axes."""
    x = np.asarray(x, np.float64)
    kept = {axis % x.ndim for axis in axes}
    others = tuple(axis for axis in range(x.ndim) if axis not in kept)
    return x.mean(others), x.var(others)


def check(norm, x, axes=(-1,)):
    for actual, expected in zip(
        (norm.moving_mean, norm.moving_variance), population(x, axes), strict=True
    ):
        assert_allclose(np.squeeze(actual), expected, **CLOSE)


def check_same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert_allclose(a, b, **CLOSE)


# Kinds of batch norm, with the shape of an example and the axes that stay.
KINDS = (
    (BatchNorm(), (2, 4, 3, 5), (-1,)),
    (BatchNorm(virtual_batch_size=2), (4, 3, 5), (-1,)),
    (BatchNorm(axis=1), (5, 4, 3), (1,)),
    (BatchNorm(axis=[1, 3]), (5, 4, 3), (1, 3)),
    (layers.IndependentComponent(0.5), (4, 3, 5), (-1,)),
    (layers.BatchKalmanNormalization(), (4, 3, 5), (-1,)),
)


def test_finds_mean_and_variance_of_all_data():
    x = [draw(30, *shape) for _, shape, _ in KINDS]
    inputs = [keras.Input(shape) for _, shape, _ in KINDS]
    outputs = [row[0](image) for row, image in zip(KINDS, inputs, strict=True)]
    new = reestimate_batch_norm(keras.Model(inputs, outputs), x, batch_size=7)
    for (norm, _, axes), data in zip(KINDS, x, strict=True):
        check(new.get_layer(norm.name), data, axes)
        assert type(new.get_layer(norm.name)) is type(norm)


def test_batches_do_not_matter():
    x, y = draw(23, 3, 4), np.arange(23)
    model = alone(BatchNorm(), 3, 4)
    once = reestimate_batch_norm(model, x, batch_size=23)
    slices = tf.data.Dataset.from_tensor_slices
    for data, size in (
        (x, 1),
        ((x[::-1], y), 10),
        (x.astype(np.float64).tolist(), 4),
        (slices((x, y, y)).shuffle(30, seed=1).batch(22), 128),
    ):
        check_same(reestimate_batch_norm(model, data, batch_size=size), once)


def test_a_large_mean_costs_no_digits_of_a_small_variance():
    x = draw(600, 4, seed=3, mean=1e4, deviation=0.05)
    new = reestimate_batch_norm(alone(BatchNorm(), 4), x, batch_size=64)
    assert_allclose(new.layers[1].moving_variance, population(x)[1], rtol=1e-6)


def test_a_batch_norm_sees_those_before_it_reestimated():
    inputs = keras.Input((6,))
    x = BatchNorm(name="first")(inputs)
    x = keras.layers.Dense(4, "relu", name="dense")(x)
    model = keras.Model(inputs, BatchNorm(name="second")(x))
    x = draw(50, 6)
    new = reestimate_batch_norm(model, x, batch_size=8)
    check(new.get_layer("first"), x)
    mean, variance = population(x)
    kernel, bias = model.get_layer("dense").get_weights()
    hidden = np.maximum((x - mean) / np.sqrt(variance + 1e-3) @ kernel + bias, 0)
    check(new.get_layer("second"), hidden)


def test_a_shared_batch_norm_gets_all_its_uses():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    norm = BatchNorm(name="norm")
    sums = keras.layers.Add(name="sum")([norm(left), norm(right)])
    model = keras.Model([left, right], BatchNorm(name="last")(sums))
    a, b = draw(30, 4), draw(30, 4, seed=1, mean=-1.0)
    new = reestimate_batch_norm(model, [a, b], batch_size=11)
    both = np.concatenate([a, b])
    check(new.get_layer("norm"), both)
    mean, variance = population(both)
    check(new.get_layer("last"), (a + b - 2 * mean) / np.sqrt(variance + 1e-3))
    check_same(reestimate_batch_norm(model, {"left": a, "right": b}), new)
    pairs = tf.data.Dataset.from_tensor_slices(((a, b), a)).batch(7)
    check_same(reestimate_batch_norm(model, pairs), new)


def test_models_inside_stay_inside():
    inner = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm")], name="inner")
    inputs = keras.Input((4,))
    x = keras.layers.Lambda(lambda x: 2 * x, name="double")(inner(inputs) + 1.0)
    model = keras.Model(inputs, BatchNorm(name="norm")(x), name="outer")
    x = draw(50, 4)
    new = reestimate_batch_norm(model, x)
    assert [layer.name for layer in new.layers] == [x.name for x in model.layers]
    assert isinstance(new.get_layer("inner"), keras.Sequential)
    norm = new.get_layer("inner").get_layer("norm")
    check(norm, x)
    mean, variance = population(x)
    check(new.get_layer("norm"), 2 * (x - mean) / np.sqrt(variance + 1e-3) + 2)


def test_a_layer_of_a_model_and_of_one_inside_stays_one():
    dense, start = keras.layers.Dense(4, name="dense"), keras.Input((4,))
    inner = keras.Model(start, BatchNorm()(dense(start)), name="inner")
    inputs = keras.Input((4,))
    new = reestimate_batch_norm(keras.Model(inputs, dense(inner(inputs))), draw(9, 4))
    assert new.get_layer("dense") is new.get_layer("inner").get_layer("dense")


def test_wrapped_batch_norms_are_found():
    x = draw(10, 5, 3)
    model = alone(keras.layers.TimeDistributed(BatchNorm()), 5, 3)
    check(reestimate_batch_norm(model, x, batch_size=4).layers[1].layer, x)


def kalman_network():
    inputs = keras.Input((5, 5, 3))
    x, state = layers.BatchKalmanNormalization(momentum=0.0, name="first")(inputs)
    conv = keras.layers.Conv2D(4, 3, name="conv")
    y = conv(x)
    state = layers.propagate_moments(conv, state)
    last = layers.BatchKalmanNormalization(momentum=0.0, name="last")
    return keras.Model(inputs, last([y, state])[0])


def test_kalman_moments_are_those_of_training_on_one_batch():
    keras.utils.set_random_seed(0)
    model, x = kalman_network(), draw(40, 5, 5, 3)
    first = model.get_layer("first").get_weights()
    new = reestimate_batch_norm(model, x, batch_size=7)
    # Momentum 0 puts the posterior of this one batch into the moving averages; in
    # training the layers after see what a batch of it would have made of it.
    model(x, training=True)
    check_same(new, model)
    assert not np.allclose(new.get_layer("first").get_weights()[2], first[2])


def test_the_given_model_stays_as_it_was():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="dense")(BatchNorm(name="norm")(inputs))
    model = keras.Model(inputs, x)
    model.get_layer("norm").trainable = False
    config = model.get_config()
    with untouched(model):
        new = reestimate_batch_norm(model, draw(12, 4))
    assert new.get_config() == config
    assert "call" not in vars(model.get_layer("norm"))
    assert "call" not in vars(new.get_layer("norm"))
    assert_array_equal(new.get_layer("dense").kernel, model.get_layer("dense").kernel)


def test_the_report_says_how_far_the_averages_were_off():
    model = alone(BatchNorm(epsilon=1e-9, name="norm"), 1)
    x = np.float32([[1.0], [5.0]])
    _, report = reestimate_batch_norm(model, x, return_report=True)
    assert report.to_dict()["changes"] == [
        {
            "layer": "norm",
            "kind": "BatchNormalization",
            "action": "statistics of 2 values per channel; means moved by up to 1.5 "
            "standard deviations, standard deviations to 2 to 2 times theirs",
            "reason": "",
        }
    ]
