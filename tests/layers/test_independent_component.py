import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, head, images
from gradients import assert_is_gradient
from larq_nobn._keras import keras
from larq_nobn.layers import IndependentComponent
from numpy.testing import assert_allclose, assert_array_equal


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(70)


def maps(*shape):
    return np.random.default_rng(71).normal(2, 3, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(4, 5, 5, 3), (8, 3), (4, 5, 3)])
def test_without_dropout_it_is_batch_norm(shape):
    layer, norm = IndependentComponent(0.0), keras.layers.BatchNormalization()
    x = maps(*shape)
    for training in (True, True, False):
        found, expected = layer(x, training=training), norm(x, training=training)
        assert_array_equal(found, expected)
    for one, other in zip(layer.get_weights(), norm.get_weights(), strict=True):
        assert_array_equal(one, other)


def test_training_drops_what_batch_norm_returns_and_scales_the_rest():
    x, rate = maps(50, 10, 10, 4), 0.3
    norm = keras.layers.BatchNormalization()(x, training=True).numpy()
    y = IndependentComponent(rate)(x, training=True).numpy()
    kept = y != 0
    sigma = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < 4 * sigma
    assert_allclose(y[kept], norm[kept] / (1 - rate), rtol=1e-5)


def test_inference_uses_the_moving_statistics_alone():
    layer, x = IndependentComponent(0.5, epsilon=0.01), maps(4, 5, 5, 2)
    layer.build(x.shape)
    layer.set_weights(np.array([[2, 3], [0.5, -1], [1, 2], [4, 9]]))
    expected = np.array([2, 3]) * (x - [1, 2]) / np.sqrt([4.01, 9.01]) + [0.5, -1]
    assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert_array_equal(layer(x)[:1], layer(x[:1]))


def test_dropout_multiplies_correlations_by_the_fraction_it_keeps():
    rng, keep = np.random.default_rng(72), 0.8
    count = 100_000
    x = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], count)
    y = IndependentComponent(1 - keep)(x.astype(np.float32), training=True).numpy()
    assert_allclose(np.corrcoef(x.T)[0, 1], 0.6, atol=4 / np.sqrt(count))
    assert_allclose(np.corrcoef(y.T)[0, 1], 0.6 * keep, atol=4 / np.sqrt(count))


def test_gradients_for_the_mask_that_was_drawn():
    layer = IndependentComponent(0.4, dtype="float64")
    x = maps(5, 2, 2, 3).astype(np.float64)
    upstream = np.random.default_rng(73).normal(size=x.shape)
    layer.build(x.shape)

    def call(x):
        tf.random.set_seed(74)  # the same mask again
        return layer(x, training=True)

    place = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(place)
        y = call(place)
    assert (y.numpy() == 0).any()
    d_x = tape.gradient(y, place, upstream)
    assert_is_gradient(d_x, lambda at: np.vdot(call(at), upstream), x)


def test_arguments_of_batch_norm_are_taken_and_kept():
    layer = IndependentComponent(0.1, center=False, axis=-1, name="ic")
    before = layer.get_config()
    layer.build((2, 4, 4, 3))
    assert layer.beta is None
    assert layer.get_config() == before
    again = IndependentComponent.from_config(before)
    assert (again.center, again.rate, again.name) == (False, 0.1, "ic")


@pytest.mark.parametrize(
    "consumer",
    [
        binary_conv(name="consumer"),
        lq.quantizers.SteSign(name="consumer"),
        keras.layers.Activation(lq.quantizers.SteSign(), name="consumer"),
    ],
    ids=["input quantizer", "layer", "activation"],
)
def test_training_rejects_a_sign_right_after(consumer):
    model = chain(IndependentComponent(0.1, name="ic"), consumer, *head())
    x = images()
    assert np.isfinite(model(x)).all()
    message = r"Layer 'ic' \(IndependentComponent, rate=0.1\) feeds 'consumer', whose"
    with pytest.raises(ValueError, match=message):
        model(x, training=True)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message):
        model.fit(x, np.zeros((8, 5)), verbose=0)


@pytest.mark.parametrize(
    "consumer",
    [
        lq.layers.QuantConv2D(8, 3, kernel_quantizer="dorefa_quantizer"),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.ReLU(),
    ],
    ids=lambda layer: layer.name,
)
def test_training_takes_other_layers_after(consumer):
    model = chain(IndependentComponent(0.1), consumer, *head())
    assert np.isfinite(model(images(), training=True)).all()


def test_without_dropout_a_sign_may_follow():
    model = chain(IndependentComponent(0.0), binary_conv(), *head())
    assert np.isfinite(model(images(), training=True)).all()


@pytest.mark.convert
def test_after_a_binary_convolution_it_costs_nothing(tmp_path):
    layers = [binary_conv(name="conv"), IndependentComponent(0.5, name="ic")]
    model, plain = chain(*layers, *head()), chain(binary_conv(), *head())
    reports = [
        nobn.convert(each, tmp_path / f"{index}.tflite", data=images())
        for index, each in enumerate((model, plain))
    ]
    first, second = (
        {row["op"]: row["count"] for row in report.float_ops} for report in reports
    )
    assert first == second
    assert reports[0].lce_bconv2d == 1


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"rate": 1.0}, ValueError, r"rate=1.0 is outside \[0, 1\)"),
        ({"rate": -0.1}, ValueError, r"rate=-0.1 is outside \[0, 1\)"),
        ({"rate": None}, TypeError, "rate=None is not a number"),
        ({"momentum": 1.0}, ValueError, r"momentum=1.0 is outside \[0, 1\)"),
        ({"epsilon": 0.0}, ValueError, r"epsilon=0.0 is outside \(0, inf\)"),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        IndependentComponent(**arguments)
