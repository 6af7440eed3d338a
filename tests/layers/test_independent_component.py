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


def test_without_dropout_it_is_batch_norm():
    layer, norm = IndependentComponent(0.0), keras.layers.BatchNormalization()
    x = maps(4, 5, 5, 3)
    for training in (True, True, False):
        actual, expected = layer(x, training=training), norm(x, training=training)
        assert_array_equal(actual, expected)
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


SIGNS = {
    "input quantizer": lambda: binary_conv(8, name="consumer"),
    "layer": lambda: lq.quantizers.SteSign(name="consumer"),
    "activation": lambda: keras.layers.Activation(
        lq.quantizers.SteSign(), name="consumer"
    ),
}


@pytest.mark.parametrize("consumer", SIGNS)
def test_training_rejects_a_sign_right_after(consumer):
    norm = IndependentComponent(0.1, name="ic")
    model = chain(norm, SIGNS[consumer](), *head(), stem=False)
    x = images()
    assert np.isfinite(model(x)).all()
    message = r"Layer 'ic' \(IndependentComponent, rate=0.1\) feeds 'consumer', whose"
    with pytest.raises(ValueError, match=message):
        model(x, training=True)
    if consumer == "layer":
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match=message):
            model.fit(x, np.zeros((8, 5)), verbose=0)
