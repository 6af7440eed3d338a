"""What a preconditioned layer does over steps, files, optimizers, and with mistakes."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import dtype_policy, keras
from larq_nobn.layers import BatchNormalizationPreconditioning
from numpy.testing import assert_allclose, assert_array_equal

# Keras says so of every .h5 file; that the format still works is the point here.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")

BINARY = {
    "padding": "same",
    "pad_values": 1.0,
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}


def test_averages_are_even_at_first_and_then_run():
    rng = np.random.default_rng(44)
    batches = rng.normal(2.0, 3.0, size=(5, 8, 3))
    wrapper = BatchNormalizationPreconditioning(
        keras.layers.Dense(2, dtype="float64"), momentum=0.6
    )
    mean, variance = np.zeros(3), np.zeros(3)
    for x, kept in zip(batches, [0, 1 / 2, 0.6, 0.6, 0.6], strict=True):
        wrapper(x, training=False)
        wrapper(x, training=True)
        mean = kept * mean + (1 - kept) * x.mean(0)
        variance = kept * variance + (1 - kept) * x.var(0)
        assert_allclose(wrapper.moving_mean, mean)
        assert_allclose(wrapper.moving_variance, variance)
    assert wrapper.batches == 5


def test_a_frozen_layer_keeps_its_averages():
    wrapper = BatchNormalizationPreconditioning(keras.layers.Dense(2))
    wrapper.trainable = False
    wrapper(tf.ones((4, 3)), training=True)
    assert wrapper.batches == 0
    assert_array_equal(wrapper.moving_mean, 0)


def test_training_may_be_a_tensor():
    wrapper = BatchNormalizationPreconditioning(keras.layers.Dense(2))
    step = tf.function(lambda x, training: wrapper(x, training=training))
    x = tf.random.stateless_normal((4, 3), (1, 2))
    assert_array_equal(step(x, tf.constant(False)), wrapper.layer(x))
    assert wrapper.batches == 0
    assert_array_equal(step(x, tf.constant(True)), wrapper.layer(x))
    assert wrapper.batches == 1


def test_quantizers_run_once_and_penalties_count_once():
    calls = []

    def counting(kind):
        return lambda x: calls.append(kind) or lq.math.sign(x)

    layer = lq.layers.QuantDense(
        *(2, "tanh"),
        input_quantizer=counting("input"),
        kernel_quantizer=counting("kernel"),
        kernel_regularizer="l2",
        activity_regularizer="l2",
    )
    x = tf.random.stateless_normal((4, 3), (1, 2))
    layer(x)
    alone, calls[:] = [loss.numpy() for loss in layer.losses], []
    wrapper = BatchNormalizationPreconditioning(layer)
    wrapper(x, training=True)
    assert calls == ["input", "kernel"]
    assert_array_equal([loss.numpy() for loss in wrapper.losses], alone)


def test_a_failing_call_leaves_the_layer_as_it_was():
    def fail(y):
        raise RuntimeError("no activation")

    layer = keras.layers.Dense(2, activation=fail)
    wrapper = BatchNormalizationPreconditioning(layer)
    wrapper.build((4, 3))
    kernel = layer.kernel
    with pytest.raises(RuntimeError, match="no activation"):
        wrapper(tf.ones((4, 3)), training=True)
    assert layer.kernel is kernel


def network(**how):
    keras.utils.set_random_seed(45)
    conv = lq.layers.QuantConv2D(4, 3, name="conv", **BINARY)
    dense = keras.layers.Dense(3, name="out")
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            BatchNormalizationPreconditioning(conv),
            keras.layers.GlobalAveragePooling2D(),
            BatchNormalizationPreconditioning(dense),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse", **how)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, suffixes",
    [("float32", (".keras", ".h5")), ("mixed_float16", (".keras", ".saved_model"))],
)
def test_training_continues_from_a_file(policy, suffixes, tmp_path):
    rng = np.random.default_rng(46)
    x, y = rng.normal(size=(24, 4, 4, 2)), rng.normal(size=(24, 3))
    with dtype_policy(policy):
        model = network(run_eagerly=True)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        assert model.layers[0].batches == 6
        again = {}
        for suffix in suffixes:
            kind = {"save_format": "tf"} if suffix == ".saved_model" else {}
            model.save(tmp_path / f"model{suffix}", **kind)
            again[suffix] = keras.models.load_model(tmp_path / f"model{suffix}")
        for each in (model, *again.values()):
            each.run_eagerly = True  # which not every kind of file keeps
            each.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for suffix, other in again.items():
        for here, there in zip(model.weights, other.weights, strict=True):
            assert_array_equal(here, there, err_msg=f"{here.name} of {suffix}")
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_clipping_knows_the_layer_inside_and_sees_its_gradients():
    model = network()
    x = tf.random.stateless_normal((8, 4, 4, 2), (1, 2))
    optimizer = nobn.optimizers.AdaptiveGradientClipping.for_model(
        model, keras.optimizers.SGD(1.0), clip_factor=1e-3, exclude=()
    )
    axes = {"^conv/kernel:0$": (0, 1, 2), "^out/kernel:0$": (0,)}
    found = optimizer.get_config()["unit_axes"]
    assert {name: tuple(each) for name, each in found.items()} == axes
    variable = model.trainable_variables[-2]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    start = variable.numpy()
    clipped = nobn.optimizers.adaptive_gradient_clip(
        gradients[-2], start, (0,), 1e-3, 1e-3
    )
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert_allclose(variable.numpy(), start - clipped, rtol=1e-5)


def test_names():
    dense = keras.layers.Dense(2, name="head")
    assert BatchNormalizationPreconditioning(dense).name == "head"
    assert BatchNormalizationPreconditioning(dense, name="other").name == "other"


@pytest.mark.parametrize(
    "layer, arguments, error, message",
    [
        (
            keras.layers.Dense(2, use_bias=False, name="d"),
            {},
            ValueError,
            "'d' has use",
        ),
        (lq.layers.QuantConv2DTranspose(2, 3), {}, TypeError, "QuantConv2DTranspose"),
        (keras.layers.DepthwiseConv2D(3), {}, TypeError, "DepthwiseConv2D"),
        ("dense", {}, TypeError, "'dense' cannot be preconditioned"),
        (keras.layers.Dense(2), {"momentum": 1.0}, ValueError, r"momentum=1.0 is out"),
        (keras.layers.Dense(2), {"epsilon": 0}, ValueError, r"epsilon=0 is outside"),
        (keras.layers.Dense(2, name="d"), {"dtype": "float64"}, ValueError, "of 'd',"),
    ],
)
def test_rejects(layer, arguments, error, message):
    with pytest.raises(error, match=message):
        BatchNormalizationPreconditioning(layer, **arguments)
