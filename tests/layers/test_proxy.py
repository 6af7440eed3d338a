import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from gradients import assert_is_gradient, value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.layers import ProxyNormalization
from numpy.testing import assert_allclose, assert_array_equal

WEIGHTS = ("gamma", "beta", "proxy_gamma", "proxy_beta")


@pytest.mark.parametrize(
    "num_samples, center, variance",
    [(200, 0.3984511734, 0.3380347742), (None, 0.3989422804, 0.3408450569)],
)
def test_published_value(num_samples, center, variance):
    x = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), (1, 2, 2, 1))
    layer_norm = np.array([-1.3416354, -0.4472118, 0.4472118, 1.3416354])
    expected = (np.maximum(layer_norm, 0) - center) / np.sqrt(variance + 0.03)
    found = ProxyNormalization(num_samples=num_samples)(x)
    assert_allclose(np.ravel(found), expected, rtol=1e-5)


SAMPLED = {"activation": "softplus", "num_samples": 20}
EXACT = {"num_samples": None}


# Every pair of two of the three.
@pytest.mark.parametrize(
    "groups, arguments, shape",
    [
        (1, SAMPLED, (2, 3, 2, 6)),
        (1, EXACT, (3, 6)),
        (2, SAMPLED, (3, 6)),
        (2, EXACT, (2, 3, 2, 6)),
        (3, SAMPLED, (2, 3, 2, 6)),
        (3, EXACT, (3, 6)),
    ],
)
def test_gradients_are_finite_differences(shape, groups, arguments):
    layer = ProxyNormalization(groups=groups, dtype="float64", **arguments)
    rng = np.random.default_rng(50)
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    layer.build(shape)
    for name in WEIGHTS:
        weight = getattr(layer, name)
        weight.assign(weight + rng.normal(size=6) / 3)
    _, d_x, d_weights = value_and_gradients(layer, x, upstream)
    assert d_weights.keys() == set(WEIGHTS)
    assert_is_gradient(d_x, lambda at: np.vdot(layer(at), upstream), x)
    for name, gradient in d_weights.items():
        weight = getattr(layer, name)
        start = weight.numpy()

        def loss(values, weight=weight):
            weight.assign(values)
            return np.vdot(layer(x), upstream)

        assert_is_gradient(gradient, loss, start)
        weight.assign(start)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_without_an_activation_it_is_group_norm(groups):
    x = tf.random.stateless_normal((2, 5, 5, 8), (5, 1), mean=2.0)
    group_norm = keras.layers.GroupNormalization(groups, epsilon=1e-5)(x)
    found = ProxyNormalization("linear", groups, num_samples=None)(x)
    assert_allclose(found, group_norm / np.sqrt(1.03), rtol=1e-5, atol=1e-6)


def test_normal_channels_leave_with_mean_0_and_variance_1():
    x = tf.random.stateless_normal((1, 128, 128, 4), (5, 2))
    y = ProxyNormalization(epsilon=1e-6)(x).numpy()
    # Four standard deviations of the mean of 16,384 values, and about as much for the
    # variance.
    assert_allclose(y.mean((0, 1, 2)), 0, atol=4 / 128)
    assert_allclose(y.var((0, 1, 2)), 1, atol=0.06)


def test_large_maps_are_compiled_to_the_same_function():
    x = tf.random.stateless_normal((2, 48, 48, 16), (5, 3))
    layer = ProxyNormalization(groups=4)

    def value_and_slope():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(y))
        return y, *tape.gradient(loss, [x, *layer.trainable_weights])

    eager, compiled = value_and_slope(), tf.function(value_and_slope)()
    for one, other in zip(compiled, eager, strict=True):
        scale = np.abs(other).max()
        assert_allclose(one, other, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("training", [False, True])
def test_an_example_does_not_see_the_rest_of_its_batch(training):
    x = np.random.default_rng(51).normal(size=(5, 6, 6, 4)).astype(np.float32)
    other = np.concatenate([x[:1], 9 * x[1:] + 4])
    layer = ProxyNormalization(groups=2)
    first, again = (layer(batch, training=training)[0] for batch in (x, other))
    assert_array_equal(first, again)


def test_float16_does_not_overflow():
    x = tf.constant([-3e4, 3e4] * 16, tf.float16, (1, 4, 4, 2))
    wide, narrow = (
        ProxyNormalization(dtype=dtype)(tf.cast(x, compute))
        for dtype, compute in (("float32", "float32"), ("mixed_float16", "float16"))
    )
    assert narrow.dtype == tf.float16
    assert_allclose(narrow, wide, rtol=1e-3)


def test_decay_draws_the_proxy_alone():
    image = keras.Input((4, 4, 3))
    layer = ProxyNormalization(proxy_regularizer=keras.regularizers.L2(0.1))
    model = keras.Model(image, layer(image))
    layer.gamma.assign([2, 3, 4])
    layer.beta.assign([5, 6, 7])
    layer.proxy_gamma.assign([1, 2, 0])
    layer.proxy_beta.assign([0, 0, 3])
    assert_allclose(sorted(model.losses), [0.5, 0.9], rtol=1e-6)
    again = keras.Model.from_config(model.get_config())
    assert_array_equal(again.losses, [0, 0])
    assert ProxyNormalization().proxy_regularizer is None


@keras.saving.register_keras_serializable("larq_nobn_tests")
def leaky(y):
    return tf.nn.leaky_relu(y, 0.25)


def test_activations_of_ones_own_are_saved(tmp_path):
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, ProxyNormalization(leaky)(image))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[1].activation is leaky
    x = np.random.default_rng(52).normal(size=(2, 4, 4, 3))
    assert_array_equal(again(x), model(x))


def unregistered(y):
    return y


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"activation": "rely"}, ValueError, "activation='rely' is not an elementwise"),
        ({"activation": unregistered}, ValueError, "activation=<function unregistered"),
        ({"activation": keras.layers.PReLU()}, ValueError, "activation=<.*PReLU"),
        ({"activation": 3}, ValueError, "activation=3 is not an elementwise"),
        ({"groups": 0}, ValueError, "groups=0 is below 1"),
        ({"groups": 2.0}, TypeError, "groups=2.0 is not a whole number"),
        ({"num_samples": 1}, ValueError, "num_samples=1 is below 2"),
        (
            {"activation": "tanh", "num_samples": None},
            ValueError,
            "activation='tanh' does not have; linear, relu, leaky_relu have. Use",
        ),
        ({"epsilon": 0.0}, ValueError, r"epsilon=0.0 is outside \(0, inf\)"),
        ({"proxy_regularizer": "l3"}, ValueError, "proxy_regularizer='l3' is not"),
        ({"proxy_regularizer": 0.1}, ValueError, "proxy_regularizer=0.1 is not"),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        ProxyNormalization(**arguments)


@pytest.mark.parametrize(
    "groups, shape, message",
    [
        (3, (2, 4, 4, 8), "8 channels, which groups=3 does not divide"),
        (8, (2, 1, 1, 8), r"shape \(2, 1, 1, 8\) for groups=8, where every group"),
        (8, (2, 8), r"shape \(2, 8\) for groups=8, where every group"),
        (1, (2, 1), r"shape \(2, 1\) for groups=1, where every group"),
        (1, (2, 4, 4, None), r"shape \(2, 4, 4, None\), but it needs"),
    ],
)
def test_rejects_inputs(groups, shape, message):
    with pytest.raises(ValueError, match=message):
        nobn.layers.ProxyNormalization(groups=groups).build(shape)
