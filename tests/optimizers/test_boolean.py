"""Boolean accumulation: its rule, its state in files, and that it trains."""

import json
import re

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from contract_docstring import check_docstring
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping, BooleanAccumulation
from numpy.testing import assert_allclose, assert_array_equal
from optimizers.agc_model import IMAGES, eager, train

legacy, schedules = keras.optimizers.legacy, keras.optimizers.schedules


def in_case(learning_rate=300.0):
    boolean = BooleanAccumulation(learning_rate)
    return lq.optimizers.CaseOptimizer(
        (boolean.is_binary_variable, boolean), default_optimizer=legacy.Adam(0.01)
    )


def network(optimizer=None, policy="float32"):
    quantizer = lq.quantizers.NoOp(precision=1, dtype=policy)
    return eager(optimizer or in_case(), quantizer, policy)


def step(optimizer, weight, gradient):
    optimizer.apply_gradients([(tf.convert_to_tensor(gradient, weight.dtype), weight)])


def state(optimizer, weight):
    return [
        optimizer.get_slot(weight, name).numpy() for name in ("accumulator", "kept")
    ]


def test_five_steps_by_hand():
    weight = tf.Variable([1.0, -1.0])
    optimizer = BooleanAccumulation(1.0)
    for gradient, weights, accumulators, kept in [
        ([0.5, 0.5], [1, -1], [0.5, 0.5], 1),
        ([0.5, 0.25], [-1, -1], [0, 0.75], 0.5),  # the first reaches 1 exactly
        ([0.0, -1.0], [-1, -1], [0, -0.625], 1),  # half of 0.75 is remembered
        ([-1.0, -0.5], [1, 1], [0, 0], 0),
        ([0.25, 0.25], [1, 1], [0.25, 0.25], 1),
    ]:
        step(optimizer, weight, gradient)
        assert_array_equal(weight, weights)
        found = state(optimizer, weight)
        assert_array_equal(found[0], accumulators)
        assert found[1] == kept


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("compiled", [False, True])
def test_twenty_steps_against_a_loop(dtype, compiled):
    rng = np.random.default_rng(3)
    start = rng.choice([-1.0, 1.0], (3, 3, 4, 5))
    gradients = rng.normal(scale=0.02, size=(20, *start.shape)).astype(dtype)
    decay = schedules.PolynomialDecay(40.0, 20, 10.0)
    weight = tf.Variable(start, dtype=dtype)
    optimizer = BooleanAccumulation(decay)
    apply = tf.function(step) if compiled else step
    rates = [float(decay(i)) for i in range(20)]
    shares = []
    for gradient, (w, m, kept) in zip(
        gradients, loop(start, gradients, rates), strict=True
    ):
        gradient = tf.constant(gradient)
        apply(optimizer, weight, gradient)
        assert_array_equal(weight, w)
        found = state(optimizer, weight)
        assert_allclose(found[0], m, rtol=1e-5, atol=1e-6)  # sums of up to 20 terms
        assert_allclose(found[1], kept, rtol=1e-6)
        shares.append(kept)
    assert 0.5 < min(shares) < 0.99  # the shares played their part


def test_the_first_step_takes_signs():
    weight = tf.Variable([0.3, -2.0, 0.0, 1.0])
    step(BooleanAccumulation(1.0), weight, [0.0, 0.0, 0.0, 1.0])
    assert_array_equal(weight, [1, -1, 1, -1])


def test_which_variables_are_binary():
    binary, head = network().get_layer("binary"), network().get_layer("head")
    assert BooleanAccumulation.is_binary_variable(binary.kernel)
    assert not BooleanAccumulation.is_binary_variable(binary.bias)
    assert not BooleanAccumulation.is_binary_variable(head.kernel)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_kernels_stay_binary_in_training(policy):
    model = network(policy=policy)
    kernel = model.get_layer("binary").kernel.latent_variable
    signs = []
    for _ in range(3):
        train(model)
        signs.append(kernel.numpy())
        assert set(np.unique(signs[-1])) == {-1.0, 1.0}
    assert np.any(signs[0] != signs[2])
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert optimizer.optimizers[0].get_slot(kernel, "accumulator").dtype == tf.float32


def digits_network(filters=(64, 64, 64)):
    """A stem, binary convolutions of which the second has stride 2, and a head."""
    layers = keras.layers
    binary = {
        "padding": "same",
        "pad_values": 1,
        "input_quantizer": "ste_sign",
        "kernel_quantizer": lq.quantizers.NoOp(precision=1),
        "use_bias": False,
    }
    x = image = keras.Input((8, 8, 1))
    x = layers.Conv2D(32, 3, padding="same")(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    for index, width in enumerate(filters):
        strides = 2 if index == 1 else 1
        x = lq.layers.QuantConv2D(width, 3, strides, **binary)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(10, name="head")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(in_case(1000.0), loss, metrics=["accuracy"])
    return model


@pytest.mark.convert
def test_a_trained_network_converts(tmp_path):
    keras.utils.set_random_seed(0)
    model = digits_network(filters=(32, 64))
    model.run_eagerly = True
    images = np.random.default_rng(0).random((8, 8, 8, 1), "float32")
    model.fit(images, np.arange(8), epochs=2, verbose=0)
    nobn.convert(model, tmp_path / "binary.tflite")  # compares the outputs, too
    assert nobn.audit(tmp_path / "binary.tflite").lce_bconv2d == 2


def test_a_checkpoint_continues_identically(tmp_path):
    model, other = network(), network()
    train(model, 2)
    saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = saved.save(str(tmp_path / "state"))
    opened = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
    status = opened.restore(path)
    ends = []
    for each in (model, other):
        train(each)
        kernel = each.get_layer("binary").kernel
        ends.append([*each.get_weights(), *state(each.optimizer.optimizers[0], kernel)])
    status.assert_consumed()
    assert np.any(ends[0][-2] != 0)
    for a, b in zip(*ends, strict=True):
        assert_array_equal(a, b)


def alone():
    keras.utils.set_random_seed(2)
    signs = lq.quantizers.NoOp(precision=1)
    dense = lq.layers.QuantDense(3, kernel_quantizer=signs, use_bias=False)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), dense])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(BooleanAccumulation(schedules.CosineDecay(9.0, 20)), loss)
    return model


# Keras calls its older format legacy; it stays one of our formats.
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_file_continues_identically(tmp_path):
    model = alone()
    train(model, 2)
    model.save(tmp_path / "model.h5")
    other = keras.models.load_model(tmp_path / "model.h5")
    assert type(other.optimizer) is BooleanAccumulation
    accumulators = other.optimizer.get_weights()[1]
    assert np.any(accumulators != 0)
    assert_array_equal(accumulators, model.optimizer.get_weights()[1])
    train(model)
    train(other)
    assert_array_equal(model.get_weights()[0], other.get_weights()[0])


def test_config_round_trip():
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
    config = in_case(0.25).get_config()
    case = lq.optimizers.CaseOptimizer.from_config(config)
    assert type(case.optimizers[0]) is BooleanAccumulation
    assert case.optimizers[0].get_config()["learning_rate"] == 0.25


def test_it_is_not_clipped():
    gradient = tf.constant([[0.75], [-0.9]])
    for wrap in (AdaptiveGradientClipping, lambda inner: inner):
        weight = tf.Variable([[1.0], [-1.0]], name="kernel")
        step(wrap(BooleanAccumulation(1.25)), weight, gradient)
        assert_array_equal(weight, [[1.0], [1.0]])


def test_it_is_not_clipped_beside_others():
    kernels = []
    for wrap in (
        lambda inner: AdaptiveGradientClipping(inner, 1e-6),
        lambda inner: inner,
    ):
        model = network(wrap(in_case()))
        model.train_on_batch(IMAGES, np.arange(8) % 3)
        kernels.append(model.get_layer("binary").kernel.numpy())
    start = np.where(network().get_layer("binary").kernel.numpy() < 0, -1, 1)
    assert np.any(kernels[0] != start)
    assert_array_equal(*kernels)


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
def test_learning_rate_out_of_range(value):
    message = re.escape(f"learning_rate={value} is outside (0, inf). Use 1000, or 300 ")
    with pytest.raises(ValueError, match=message):
        BooleanAccumulation(value)


@pytest.mark.parametrize("value", ["fast", True, None])
def test_learning_rate_of_the_wrong_type(value):
    message = re.escape(f"learning_rate={value!r} is not a number; it must lie in (0, ")
    with pytest.raises(TypeError, match=message):
        BooleanAccumulation(value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite(bad):
    weight = tf.Variable([1.0, -1.0], name="kernel")
    with pytest.raises(tf.errors.InvalidArgumentError, match="of kernel:0 is not fin"):
        step(BooleanAccumulation(), weight, [bad, 0.0])
    assert_array_equal(weight, [1, -1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_under_xla(bad):
    weight, optimizer = tf.Variable([1.0, 1.0]), BooleanAccumulation(1.0)
    step(optimizer, weight, [0.5, 0.5])
    tf.function(step, jit_compile=True)(optimizer, weight, tf.constant([bad, 0.5]))
    assert_array_equal(weight, [1, -1])
    assert_array_equal(state(optimizer, weight)[0], [0.5, 0])


def test_docstring():
    titles = ["Arguments", "Raises", "Example", "References"]
    titles.append("Differences from the paper")
    check_docstring(BooleanAccumulation, titles, ["learning_rate", "name"])


@pytest.mark.slow
def test_digits():
    keras.utils.set_random_seed(0)
    model = digits_network()
    model.fit(nobn.data.load("digits", "train", batch_size=64), epochs=6, verbose=0)
    _, accuracy = model.evaluate(nobn.data.load("digits", "test", 256), verbose=0)
    assert accuracy > 0.8  # about 0.60 if no binary weight ever flips
